"""The local engine: opens sessions and samplers over one base model on this machine."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.engines.base import Capabilities, Checkpoint, EngineIdentity, LoraSpec, SamplerRef, StateRef
from core.engines.local.need import need_torch
from core.engines.local.weights import ModelSource
from core.engines.losses import ALL_LOSSES
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.engines.local.backbone import Backbone, Shortcuts
    from core.engines.local.sampler import LocalSampler
    from core.engines.local.session import LocalSession

log = logging.getLogger(__name__)

TrainDtype = Literal["auto", "float32", "bfloat16"]
# Beside the optimiser's file in a checkpoint's folder; see state.py, which imports torch.
ADAPTER = "adapter"
_VERSIONS_THAT_DECIDE_BITS = ("torch", "transformers", "peft")
# Tokens that go through the model at once. On a CPU larger packs are no faster and cost 3 MB a token.
_BUDGET = {"cpu": 1024, "cuda": 16384}
# Without a graph to keep, activations are gone after their layer.
_SAMPLER_BUDGET = {"cpu": 4096, "cuda": 65536}


class LocalEngine:
    """Implements core.engines.base.Engine with torch and peft in this process.

    `device` is "auto" (CUDA if there is one), "cpu" or "cuda"; `train_dtype` "auto" is bf16 autocast
    where the hardware multiplies bf16, else fp32. Sampling is always fp32. `threads` None leaves
    torch's choice. Raises ModelError without torch, ConfigError for a device that is not there.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        device: str = "auto",
        train_dtype: str = "auto",
        threads: int | None = None,
        micro_batch_tokens: int | None = None,
    ) -> None:
        need_torch()
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.source = source
        self._shortcuts: Shortcuts | None = None
        self._threads = torch.get_num_threads()
        self._device = _device(device)
        self._dtype = _train_dtype(train_dtype, self._device)
        self._budget = micro_batch_tokens or _BUDGET[self._device.type]
        self._sampler_budget = micro_batch_tokens or _SAMPLER_BUDGET[self._device.type]

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity(kind="local", server=None, base_digest=self.source.digest)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            overlaps_evaluation=False, exact_scoring=True, grad_clipping=True, losses=ALL_LOSSES
        )

    @functools.cached_property
    def fingerprint(self) -> dict[str, str]:
        """Versions, device, dtype, threads and base model: equal fingerprints give equal bits on a CPU."""
        versions = {name: importlib.metadata.version(name) for name in _VERSIONS_THAT_DECIDE_BITS}
        return {
            "engine": "local",
            **versions,
            "device": _describe(self._device),
            "train_dtype": str(self._dtype).removeprefix("torch."),
            "threads": str(self._threads),
            "micro_batch_tokens": str(self._budget),
            "base_digest": self.source.digest,
        }

    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimiser: bool = True) -> LocalSession:
        """A session: new from `lora.seed`, on from a saved state to the bit, or with its weights alone."""
        import torch

        from core.engines.local.adapter import add_adapter
        from core.engines.local.lora import speed_up
        from core.engines.local.session import LocalSession

        backbone = self._backbone(None if self._dtype == torch.float32 else self._dtype)
        backbone.model = add_adapter(backbone.model, lora, self.source.spec).to(self._device)
        speed_up(backbone.model, backbone.autocast)
        shortcuts = backbone.shortcuts
        fingerprint = {
            **self.fingerprint,
            "rows": "packed" if shortcuts.packed else "padded",
            "logits": "at the loss" if shortcuts.head else "full",
        }
        session = LocalSession(backbone, lora, self.identity, fingerprint, budget=self._budget)
        if from_state is not None:
            session.restore(from_state, optimiser=optimiser)
        return session

    def sampler(self, ref: SamplerRef | None) -> LocalSampler:
        """A sampler in fp32 with a model of its own, the adapter at `ref` merged into it."""
        from core.engines.local.adapter import merge_adapter

        return self._sampler(None if ref is None else lambda model: merge_adapter(model, Path(ref.location)))

    def unmerged_sampler(self, ref: SamplerRef) -> LocalSampler:
        """As `sampler`, with the adapter beside the base's weights, as it is while it is trained."""
        from core.engines.local.adapter import wrap_adapter

        return self._sampler(lambda model: wrap_adapter(model, Path(ref.location)))

    def _sampler(self, adapted: Callable[[Any], Any] | None) -> LocalSampler:
        from core.engines.local.sampler import LocalSampler

        backbone = self._backbone(None)
        if adapted is not None:
            backbone.model = adapted(backbone.model)
        backbone.model = backbone.model.to(self._device).eval().requires_grad_(False)
        return LocalSampler(backbone, budget=self._sampler_budget)

    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        """The folder itself, and the adapter in it."""
        return StateRef(str(folder)), SamplerRef(str(folder / ADAPTER))

    def waits(self, tell: Callable[[str], None]) -> AbstractContextManager[None]:
        """Nobody is waited for."""
        return nullcontext()

    def knows(self, checkpoint: Checkpoint) -> bool:
        """Always: its files are the manifest's business."""
        return True

    def _backbone(self, autocast: Any) -> Backbone:
        from core.engines.local.backbone import Backbone, load_model

        # What an architecture allows is tried once; trying takes three times as long as loading.
        model, self._shortcuts = load_model(self.source.folder, self.source.spec, self._shortcuts)
        return Backbone(model, self._device, autocast, self._shortcuts)


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type not in _BUDGET:
        raise ConfigError(f"device {name!r} is not one the local engine runs on; use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda is asked for, but torch sees no GPU here; set it to auto or cpu")
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
