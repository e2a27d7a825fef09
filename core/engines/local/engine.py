"""The local engine: opens sessions and samplers over one base model on this machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.base_model import ModelSource, require_torch
from core.engines.base import ADAPTER, Engine, EngineIdentity, LoraSpec, SamplerRef, StateRef
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.engines.local.backbone import Backbone, Shortcuts
    from core.engines.local.sampler import LocalSampler
    from core.engines.local.session import LocalSession

# Tokens of one forward and backward pass. On a CPU larger packs are not faster and need 3 MB a token.
_BUDGET = {"cpu": 1024, "cuda": 16384}
# Without a graph, activations are freed after their layer.
_SAMPLER_BUDGET = {"cpu": 4096, "cuda": 65536}


class LocalEngine(Engine):
    """Trains and samples with torch and peft in this process.

    `source` is the base model, or a function that finds it on first use; the other settings are those of
    LocalSettings, and the tokens of one pass. The first session, sampler or fingerprint raises ModelError
    without torch, and ConfigError for a device that does not exist.
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
    def local_model(self) -> ModelSource:
        return self._find()

    @functools.cached_property
    def _runtime(self) -> tuple[Any, Any, int]:
        """torch's device, its dtype in training, and its number of threads."""
        require_torch()
        import torch

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        gpu, name = torch.cuda.is_available(), self._device_name
        device = torch.device(("cuda" if gpu else "cpu") if name == "auto" else name)
        if device.type not in _BUDGET:
            raise ConfigError(f"the local engine does not run on device {name!r}; use auto, cpu or cuda")
        if device.type == "cuda" and not gpu:
            raise ConfigError(
                "device is cuda, but torch sees no GPU; set student.engine.device to auto or cpu"
            )
        dtype = self._dtype_name
        if dtype == "auto":
            fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_multiplies_bf16()
            dtype = "bfloat16" if fast else "float32"
        return device, getattr(torch, dtype), torch.get_num_threads()

    def _budget(self, budgets: dict[str, int]) -> int:
        return self._micro_batch_tokens or budgets[self._runtime[0].type]

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("local", server=None, base_digest=self.local_model.digest)

    @functools.cached_property
    def fingerprint(self) -> dict[str, str]:
        """Versions, device, dtype, threads and base model: equal fingerprints give equal bits on a CPU."""
        versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}
        device, dtype, threads = self._runtime
        import torch

        if device.type == "cuda":
            processor = f"cuda {torch.cuda.get_device_name(device)}"
        else:
            processor = f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return {
            "engine": "local",
            **versions,
            "device": processor,
            "train_dtype": str(dtype).removeprefix("torch."),
            "threads": str(threads),
            "micro_batch_tokens": str(self._budget(_BUDGET)),
            "base_digest": self.local_model.digest,
        }

    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimizer: bool = True) -> LocalSession:
        """Open a session; a state is continued bit for bit."""
        device, dtype, _ = self._runtime
        import torch

        from core.engines.local.adapter import add_adapter, speed_up
        from core.engines.local.session import LocalSession

        backbone = self._backbone(None if dtype == torch.float32 else dtype)
        backbone.model = add_adapter(backbone.model, lora, self.local_model.spec).to(device)
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
        """Open a sampler in fp32 with a model of its own."""
        backbone = self._backbone(None)
        from core.engines.local.adapter import wrap_adapter
        from core.engines.local.sampler import LocalSampler

        if ref is not None:
            wrapped = wrap_adapter(backbone.model, Path(ref.location))
            backbone.model = wrapped.merge_and_unload() if merge else wrapped
        backbone.model = backbone.model.to(backbone.device).eval().requires_grad_(False)
        return LocalSampler(backbone, budget=self._budget(_SAMPLER_BUDGET))

    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        """Return the folder itself, and the adapter in it."""
        return StateRef(str(folder)), SamplerRef(str(folder / ADAPTER))

    def _backbone(self, autocast: Any) -> Backbone:
        device, *_ = self._runtime
        from core.engines.local.backbone import Backbone, load_model

        # The shortcuts are tried once, which takes three times as long as loading.
        source = self.local_model
        model, self._shortcuts = load_model(source.folder, source.spec, self._shortcuts)
        return Backbone(model, device, autocast, self._shortcuts)


def cpu_multiplies_bf16() -> bool:
    """Return whether this CPU has bf16 instructions; without them bf16 is slower than fp32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
