"""The local engine: opens sessions and samplers over one base model on this machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.base_model import ModelSource
from core.base_model.gguf import require_torch
from core.engines.base import ADAPTER, Capabilities, Engine, EngineIdentity, LoraSpec, SamplerRef, StateRef
from core.engines.losses import ALL_LOSSES
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.engines.local.backbone import Backbone, Shortcuts
    from core.engines.local.sampler import LocalSampler
    from core.engines.local.session import LocalSession

_VERSIONS_THAT_DECIDE_BITS = ("torch", "transformers", "peft")
# Tokens that go through the model at once. On a CPU larger packs are no faster and cost 3 MB a token.
_BUDGET = {"cpu": 1024, "cuda": 16384}
# Without a graph to keep, activations are freed after their layer.
_SAMPLER_BUDGET = {"cpu": 4096, "cuda": 65536}


@dataclass(frozen=True, slots=True)
class _Runtime:
    """What torch computes with."""

    device: Any
    dtype: Any
    threads: int


class LocalEngine(Engine):
    """Trains and samples with torch and peft in this process.

    `source` is the base model, or finds it when it is first needed. `device` is "auto" (CUDA if there is
    a GPU), "cpu" or "cuda"; `train_dtype` "auto" is bf16 autocast if the hardware multiplies bf16, else
    fp32. Sampling is always fp32. `threads` None leaves torch's choice. The first session, sampler or
    fingerprint raises ModelError without torch, and ConfigError for a device that does not exist.
    """

    def __init__(
        self,
        source: ModelSource | Callable[[], ModelSource],
        *,
        device: str = "auto",
        train_dtype: str = "auto",
        threads: int | None = None,
        micro_batch_tokens: int | None = None,
    ) -> None:
        self._find = source if callable(source) else lambda: source
        self._device_name, self._dtype_name, self._threads = device, train_dtype, threads
        self._micro_batch_tokens = micro_batch_tokens
        self._shortcuts: Shortcuts | None = None

    @functools.cached_property
    def source(self) -> ModelSource:
        """The base model."""
        return self._find()

    @property
    def local_model(self) -> ModelSource:
        return self.source

    @functools.cached_property
    def _runtime(self) -> _Runtime:
        require_torch()
        import torch

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        device = _device(self._device_name)
        return _Runtime(device, _train_dtype(self._dtype_name, device), torch.get_num_threads())

    def _budget(self, budgets: dict[str, int]) -> int:
        return self._micro_batch_tokens or budgets[self._runtime.device.type]

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("local", server=None, base_digest=self.source.digest)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(losses=ALL_LOSSES)

    @functools.cached_property
    def fingerprint(self) -> dict[str, str]:
        """Versions, device, dtype, threads and base model: equal fingerprints give equal bits on a CPU."""
        versions = {name: importlib.metadata.version(name) for name in _VERSIONS_THAT_DECIDE_BITS}
        return {
            "engine": "local",
            **versions,
            "device": _describe(self._runtime.device),
            "train_dtype": str(self._runtime.dtype).removeprefix("torch."),
            "threads": str(self._runtime.threads),
            "micro_batch_tokens": str(self._budget(_BUDGET)),
            "base_digest": self.source.digest,
        }

    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimizer: bool = True) -> LocalSession:
        """Open a session; see the base class. A state is continued bit for bit."""
        runtime = self._runtime
        import torch

        from core.engines.local.adapter import add_adapter
        from core.engines.local.lora import speed_up
        from core.engines.local.session import LocalSession

        backbone = self._backbone(None if runtime.dtype == torch.float32 else runtime.dtype)
        backbone.model = add_adapter(backbone.model, lora, self.source.spec).to(runtime.device)
        speed_up(backbone.model, backbone.autocast)
        shortcuts = backbone.shortcuts
        fingerprint = {
            **self.fingerprint,
            "rows": "packed" if shortcuts.packed else "padded",
            "logits": "at the loss" if shortcuts.head else "full",
        }
        session = LocalSession(backbone, lora, self.identity, fingerprint, budget=self._budget(_BUDGET))
        if from_state is not None:
            session.restore(from_state, optimizer=optimizer)
        return session

    def sampler(
        self, ref: SamplerRef | None, *, merge: bool = True, owns_engine: bool = False
    ) -> LocalSampler:
        """Open a sampler in fp32 with a model of its own; see the base class."""
        backbone = self._backbone(None)
        from core.engines.local.adapter import merge_adapter, wrap_adapter
        from core.engines.local.sampler import LocalSampler

        if ref is not None:
            add = merge_adapter if merge else wrap_adapter
            backbone.model = add(backbone.model, Path(ref.location))
        backbone.model = backbone.model.to(backbone.device).eval().requires_grad_(False)
        return LocalSampler(backbone, budget=self._budget(_SAMPLER_BUDGET))

    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        """Return the folder itself, and the adapter in it."""
        return StateRef(str(folder)), SamplerRef(str(folder / ADAPTER))

    def _backbone(self, autocast: Any) -> Backbone:
        device = self._runtime.device
        from core.engines.local.backbone import Backbone, load_model

        # What an architecture allows is tried once: trying takes three times as long as loading.
        model, self._shortcuts = load_model(self.source.folder, self.source.spec, self._shortcuts)
        return Backbone(model, device, autocast, self._shortcuts)


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type not in _BUDGET:
        raise ConfigError(f"the local engine does not run on device {name!r}; use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no GPU; set student.engine.device to auto or cpu")
    return device


def _train_dtype(name: str, device: Any) -> Any:
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name in known:
        return known[name]
    if name != "auto":
        raise ConfigError(f"train_dtype {name!r} is unknown; use auto, float32 or bfloat16")
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_multiplies_bf16()
    return torch.bfloat16 if fast else torch.float32


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 instructions; without them bf16 is slower than fp32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _describe(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
