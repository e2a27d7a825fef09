"""The local engine: its settings, sessions and samplers over one base model, and adapters of any engine.

Importing this module does not import torch.
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from core import jsonio
from core.base_model import ModelSource, require_torch, resolve_model
from core.config import EngineSettings, TrainingOnly, register_engine
from core.engines import (
    ALL_LOSSES,
    Capabilities,
    Device,
    Engine,
    EngineIdentity,
    LoraSpec,
    Sampler,
    SamplerRef,
    StateRef,
)
from core.engines.interface import ADAPTER
from core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from core.engines.local.model import Backbone, Shortcuts
    from core.engines.local.sampler import LocalSampler
    from core.engines.local.session import LocalSession

# Tokens of one forward and backward pass. On a CPU larger packs are not faster and need 3 MB a token.
_BUDGET = {"cpu": 1024, "cuda": 16384}
# Without a graph, activations are freed after their layer.
_SAMPLER_BUDGET = {"cpu": 4096, "cuda": 65536}


@register_engine("local")
class LocalSettings(EngineSettings):
    """torch and peft in this process, on a CPU or one GPU."""

    packages: ClassVar = ("torch", "peft", "transformers")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""
    train_dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], TrainingOnly("sampling is always float32")
    ] = "auto"
    """auto: bfloat16 autocast if the processor has instructions for it, else float32."""
    threads: int | None = Field(None, ge=1)
    """CPU threads; by default torch's own choice. They decide the last bits of results."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(losses=ALL_LOSSES)

    @property
    def device_here(self) -> Device:
        return Device(self.device, self.threads)

    def open(self, model: str) -> LocalEngine:
        return LocalEngine(
            lambda: resolve_model(model),
            device=self.device,
            train_dtype=self.train_dtype,
            threads=self.threads,
        )


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
        if dtype == "auto":  # without instructions for it, bf16 is slower than fp32
            if device.type == "cuda":
                fast = torch.cuda.is_bf16_supported()
            else:
                fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
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

        from core.engines.local.model import add_adapter, speed_up
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
        from core.engines.local.model import wrap_adapter
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
        from core.engines.local.model import Backbone, load_model

        # The shortcuts are tried once, which takes three times as long as loading.
        source = self.local_model
        model, self._shortcuts = load_model(source.folder, source.spec, self._shortcuts)
        return Backbone(model, device, autocast, self._shortcuts)


def open_peft(source: ModelSource, adapter: Path | None, device: Device) -> Sampler:
    """Open a sampler in float32 over a base model with the adapter in a folder; None for the base model."""
    engine = LocalEngine(source, device=device.name, train_dtype="float32", threads=device.threads)
    return engine.sampler(None if adapter is None else SamplerRef(str(adapter)))


def write_merged(
    source: ModelSource, adapter: Path | None, tokenizer: Path, folder: Path, dtype: str, *, end_of_turn: int
) -> None:
    """Write config, safetensors in `dtype` (float32, bfloat16, float16) and tokenizer into `folder`.

    Without an adapter the base model is written as it is. The token `end_of_turn` is written into each file
    from which programs read where to stop. Raises ModelError.
    """
    import torch
    from transformers import AutoTokenizer

    from core.engines.local.model import load_model, wrap_adapter

    model, _ = load_model(source.folder, source.spec)
    if adapter is not None:  # the sum is computed in float32 and rounded once
        model = wrap_adapter(model, adapter).merge_and_unload()
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    for path in sorted(tokenizer.iterdir()):
        if not (folder / path.name).exists():
            shutil.copy(path, folder / path.name)
    for name in ("config.json", "generation_config.json"):
        _change(folder / name, {"eos_token_id": end_of_turn})
    inner = AutoTokenizer.from_pretrained(str(folder))  # nosec B615  # a local folder
    # A template that writes the end of text itself would give other prompts.
    if inner.eos_token_id != end_of_turn and "eos_token" not in inner.get_chat_template():
        text = inner.convert_ids_to_tokens(end_of_turn)
        _change(folder / "tokenizer_config.json", {"eos_token": text})
        if (folder / "special_tokens_map.json").is_file():
            _change(folder / "special_tokens_map.json", {"eos_token": text})


def check_fits(folder: Path, source: ModelSource, lora: LoraSpec) -> int:
    """Load an adapter with peft over the base model; return the number of trained tensors.

    Raises ModelError if a module that `lora` trains has no weights, or weights have no module.
    """
    from peft import get_peft_model_state_dict

    from core.engines.local.model import WEIGHTS, load_model, load_tensors, target_modules, wrap_adapter

    model, _ = load_model(source.folder, source.spec)
    trained = {f"{name}.lora_{part}" for name in target_modules(model, lora) for part in "AB"}
    found = {_module(name) for name in load_tensors(folder / WEIGHTS)}
    state = get_peft_model_state_dict(wrap_adapter(model, folder), save_embedding_layers=False)
    loaded = {_module(name) for name in state}
    known = {"the modules that were trained": trained, "what peft loads by its configuration": loaded}
    for what, names in known.items():
        missing, unexpected = sorted(names - found), sorted(found - names)
        if missing or unexpected:
            raise ModelError(
                f"the adapter in {folder} does not match {what}: missing {missing[:3] or 'none'}, "
                f"unexpected {unexpected[:3] or 'none'} ({len(missing)} and {len(unexpected)}); it cannot be "
                "used as it is"
            )
    return len(found)


def _module(name: str) -> str:
    """`model.layers.0.mlp.up_proj.lora_A` for a tensor's name in PEFT's layout."""
    return name.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".default")


def _change(path: Path, values: Mapping[str, Any]) -> None:
    """Set values in a configuration file, and those that its nested text model has too."""
    found: dict[str, Any] = jsonio.read_json(path) if path.is_file() else {}
    nested = found.get("text_config")  # of models of text and images
    if isinstance(nested, dict):
        nested.update({name: value for name, value in values.items() if name in nested})
    path.unlink(missing_ok=True)  # a copied file may be read-only
    jsonio.write_json(path, {**found, **values})
