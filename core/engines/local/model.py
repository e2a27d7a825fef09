"""The model in memory: a base model, which runs rows packed end to end, and the LoRA adapter in its layers.

peft keeps an adapter's weights and their files. It computes `base(x) + B(A(dropout(x))) * scale` (Hu et al.
2021) as separate operations, whose intermediate results cost a fifth of a training step on a CPU; here the
layers compute it in one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from core.engines import LoraSpec
from core.engines.local import attention
from core.engines.local.attention import Plan, PrefixMemory, packed_plan
from core.engines.sampling import Rows
from core.errors import ModelError

log = logging.getLogger(__name__)

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# peft's name of an adapter without a name.
_ADAPTER = "default"
# A shorter prefix is not worth a pass of its own.
_WORTH = 8
# Required agreement of a shortcut before it is used; fp32 runs differ by about 1e-5.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What an architecture allows, found by trying."""

    packed: bool
    """Rows end to end with a shared prefix; otherwise padded to the longest."""
    head: bool
    """The output layer applied to hidden states gives the logits; otherwise only the model does."""


class Backbone:
    """A causal language model. `features` are hidden states, or logits if the architecture does more than
    apply its output layer (scaling, soft caps); `logits` turns either into fp32 logits."""

    def __init__(
        self, model: Any, device: torch.device, autocast: torch.dtype | None, shortcuts: Shortcuts
    ) -> None:
        self.model, self.device, self.autocast, self.shortcuts = model, device, autocast, shortcuts

    def precision(self) -> AbstractContextManager[Any]:
        """Autocast if training runs in bf16."""
        return torch.autocast(self.device.type, self.autocast) if self.autocast is not None else nullcontext()

    def common(self, rows: Rows, limit: int) -> int:
        """Return the length of a common prefix, at most `limit`; 0 if it is not worth a pass."""
        if len(rows) < 2 or not self.shortcuts.packed:
            return 0
        low, high = min(map(tuple, rows)), max(map(tuple, rows))
        differ = (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b)
        length = min(next(differ, len(low)), len(high), limit)
        return length if length >= _WORTH else 0

    def shared_prefix(self, rows: Rows, limit: int) -> PrefixMemory:
        """Run the rows' common prefix; see `common` and `prefix`."""
        length = self.common(rows, limit)
        return self.prefix(rows[0][:length] if length else ())

    def prefix(self, tokens: Sequence[int]) -> PrefixMemory:
        """Run a prefix once; return its keys and values, with their graph if gradients are enabled."""
        memory = PrefixMemory(len(tokens))
        if tokens:
            self.features([tokens], record=memory)
        return memory

    def features(
        self, rows: Rows, *, prefix: PrefixMemory | None = None, record: PrefixMemory | None = None
    ) -> Tensor:
        """Run rows (longest first, without the prefix) -> (sum of lengths, width), end to end.

        Only packed rows have a prefix or fill `record`.
        """
        if not self.shortcuts.packed:
            longest = max(len(row) for row in rows)
            grid = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
            # Padding on the right follows every real token, so the causal mask alone hides it.
            out = self._call(input_ids=grid, use_cache=False)
            return torch.cat([out[i, : len(row)] for i, row in enumerate(rows)])
        prefix, lengths = prefix or PrefixMemory(), [len(row) for row in rows]
        plan, start = packed_plan(lengths, self.device, prefix, record), prefix.length
        tokens = torch.tensor([token for row in rows for token in row], device=self.device)
        places = torch.cat([torch.arange(start, start + length) for length in lengths]).to(self.device)
        return self.run(tokens[None], places[None], plan)[0]

    def run(self, tokens: Tensor, places: Tensor, plan: Plan) -> Tensor:
        """Run one packed pass: (1, n) tokens at positions `places` -> (1, n, width)."""
        # A four-dimensional mask is used as it is, so none is built; the plan has its own.
        empty = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device)
        return self._call(
            input_ids=tokens, position_ids=places, attention_mask=empty, use_cache=False, plan=plan
        )

    def logits(self, features: Tensor) -> Tensor:
        """(n, width) features -> (n, vocabulary) logits in fp32."""
        return (self.model.get_output_embeddings()(features) if self.shortcuts.head else features).float()

    def _call(self, **inputs: Any) -> Tensor:
        if self.shortcuts.head:
            return self.model.get_decoder()(**inputs).last_hidden_state
        return self.model(**inputs).logits


def load_model(folder: Path, spec: str, known: Shortcuts | None = None) -> tuple[Any, Shortcuts]:
    """Load a base model in fp32 on the CPU; try what it allows if not `known`. Raises ModelError."""
    attention.register()
    disable_progress_bar()
    if known is not None:
        return _load(folder, attention.NAME if known.packed else None), known
    try:
        model = _load(folder, attention.NAME)
        shortcuts = Shortcuts(packed=True, head=_head_is_all(model))
        if _packs(model, shortcuts):
            return model, shortcuts
    except Exception as error:  # damaged files fail again below, with their own message
        log.info("%s: rows are padded, since this architecture does not support packing (%s)", spec, error)
    try:
        model = _load(folder, None)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(
            f"base model {spec} in {folder} cannot be loaded ({reason}); check its files"
        ) from error
    return model, Shortcuts(packed=False, head=_head_is_all(model))


def _load(folder: Path, implementation: str | None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(  # nosec B615  # a local folder
        folder, dtype=torch.float32, attn_implementation=implementation
    )
    return model.eval()


def _head_is_all(model: Any) -> bool:
    tokens = torch.arange(1, 9)[None]
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
        whole = model(input_ids=tokens, use_cache=False).logits
        return _agree(model.get_output_embeddings()(hidden), whole)


def _packs(model: Any, shortcuts: Shortcuts) -> bool:
    """Whether packed rows behind a shared prefix give the logits of the same rows run alone."""
    config = model.config
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    alike = ["sliding_attention" if slides else "full_attention"] * config.num_hidden_layers
    kinds = list(getattr(config, "layer_types", None) or alike)
    if not set(kinds) <= {"full_attention", "sliding_attention"}:
        return False
    reach = {"sliding_attention": getattr(config, "sliding_window", None)}
    windows = {layer: reach.get(kind) for layer, kind in enumerate(kinds)}
    backbone = Backbone(model, torch.device("cpu"), None, shortcuts)
    prefix, rows = [3, 4, 5], [[6, 7, 8, 9], [7, 6], [9]]
    with torch.no_grad():
        memory = backbone.prefix(prefix)
        if memory.windows != windows:
            return False
        packed = backbone.logits(backbone.features(rows, prefix=memory))
        alone = [model(input_ids=torch.tensor([prefix + row]), use_cache=False).logits[0, 3:] for row in rows]
        return _agree(packed, torch.cat(alone).float())


def _agree(found: Tensor, wanted: Tensor) -> bool:
    return bool(torch.allclose(found, wanted, atol=_TOLERANCE, rtol=_TOLERANCE))


def target_modules(model: Any, lora: LoraSpec) -> list[str]:
    """Return the full names of the linear layers that `lora` trains. Raises ModelError if there are none.

    Layers inside a numbered decoder layer count; those under a module whose name contains "attn" or
    "attention" are attention, the others the mlp.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    inside = [name for name in names if any(part.isdigit() for part in name.split("."))]
    chosen = []
    for name in inside:
        attention = any("attn" in part or "attention" in part for part in name.lower().split("."))
        if lora.train_attention if attention else lora.train_mlp:
            chosen.append(name)
    if lora.train_unembed:
        head = model.get_output_embeddings()
        if head.weight is model.get_input_embeddings().weight:
            raise ModelError(
                "student.lora.unembed is on, but this base model uses one matrix for embedding and "
                "unembedding; set student.lora.unembed to false"
            )
        chosen += [name for name, module in model.named_modules() if module is head]
    if not chosen:
        raise ModelError(
            f"no layer to adapt: {type(model).__name__} has {len(inside)} linear layers in its decoder and "
            f"the config asks for attention={lora.train_attention}, mlp={lora.train_mlp}; switch one on or "
            f"use another model"
        )
    return chosen


def add_adapter(model: Any, lora: LoraSpec, spec: str) -> Any:
    """Wrap a base model on the CPU with a new adapter whose weights depend only on `lora.seed`.

    `spec` is written into the adapter as its base model's name.
    """
    names = target_modules(model, lora)
    # Their last parts if those mean exactly these modules, which other tools understand.
    short = {name.rsplit(".", 1)[-1] for name in names}
    meant = {name for name, _ in model.named_modules() if name.rsplit(".", 1)[-1] in short}
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(short) if meant == set(names) else names,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(lora.seed)
        wrapped = get_peft_model(model, config)
    wrapped.peft_config[_ADAPTER].base_model_name_or_path = spec
    # Only the adapter drops out: the base model is frozen, and packing has no dropout in attention.
    wrapped.eval()
    for name, module in wrapped.named_modules():
        if "lora_dropout" in name:
            module.train()
    return wrapped


@contextmanager
def quiet() -> Iterator[None]:
    """Wrap a model without peft's warning about transformers."""
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for an attribute by its old name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def write_adapter(wrapped: Any, folder: Path) -> str:
    """Write PEFT's two files into `folder`; return the adapter's digest."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in get_peft_model_state_dict(wrapped, save_embedding_layers=False).items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    wrapped.peft_config[_ADAPTER].save_pretrained(folder)
    # PEFT writes the modules from a set, whose order differs between processes.
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return adapter_digest(tensors)


def adapter_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 (hex) over the tensors' bytes, in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(tensors[name].numpy().tobytes())
    return whole.hexdigest()


def read_adapter(wrapped: Any, folder: Path) -> str:
    """Read saved weights into a wrapped model; return their digest. Raises ModelError."""
    tensors = load_tensors(folder / WEIGHTS)
    found = set_peft_model_state_dict(wrapped, tensors)
    own = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if found.unexpected_keys or own != set(tensors):
        odd = sorted(own ^ set(tensors))[:3]
        raise ModelError(
            f"adapter in {folder} does not fit this model and LoRA settings (first differences: {odd})"
        )
    return adapter_digest(tensors)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU. Raises ModelError naming the file."""
    try:
        found: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise ModelError(
            f"checkpoint file {path} is missing; the checkpoint was moved or never finished"
        ) from None
    except Exception as error:
        raise ModelError(
            f"checkpoint file {path} cannot be read ({error}); restore it or train again"
        ) from error
    return found


def wrap_adapter(model: Any, folder: Path) -> Any:
    """Wrap a base model with a saved adapter that is not trained. Raises ModelError."""
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"no adapter in {folder}: {WEIGHTS} is missing; name a checkpoint that a run saved")
    with quiet():
        return PeftModel.from_pretrained(model, folder, is_trainable=False)


def speed_up(wrapped: Any, dtype: torch.dtype | None) -> None:
    """Compute every LoRA layer of a wrapped model with the fused formula, in `dtype` if one is given.

    Frozen matrices are then kept in `dtype`, which autocast would round them to, except the embedding.
    """
    embedding = wrapped.get_input_embeddings().weight
    for module in wrapped.modules():
        if isinstance(module, LoraLinear):
            base = module.base_layer
            if dtype is not None and base.weight is not embedding:
                base.weight = nn.Parameter(base.weight.data.to(dtype), requires_grad=False)
            if dtype is not None and base.bias is not None:
                base.bias = nn.Parameter(base.bias.data.to(dtype), requires_grad=False)
            module.forward = functools.partial(_forward, module, dtype)


def _forward(layer: Any, dtype: torch.dtype | None, x: Tensor) -> Tensor:
    down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    base, scale = layer.base_layer, layer.scaling[_ADAPTER]
    dropout, kept = layer.lora_dropout[_ADAPTER], None
    if dropout.training and getattr(dropout, "p", 0.0):
        kept = dropout(torch.ones_like(x))  # 0 or 1 / (1 - p) for each input
    if dtype is not None:
        x, kept = x.to(dtype), None if kept is None else kept.to(dtype)
    return _FusedLora.apply(x, base.weight, base.bias, down, up, scale, kept)


class _FusedLora(torch.autograd.Function):  # type: ignore[misc]
    """x (…, in), frozen weight (out, in), down (rank, in), up (out, rank) -> (…, out)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        kept: Tensor | None,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight, down, up = weight.to(x.dtype), down.to(x.dtype), up.to(x.dtype)
        low = linear(flat if kept is None else flat * kept.reshape(flat.shape), down)
        out = linear(flat, weight, bias)
        out.addmm_(low, up.t(), alpha=scale)
        ctx.save_for_backward(flat, low, weight, down, up, *(() if kept is None else (kept,)))
        ctx.scale = scale
        return out.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, weight, down, up, *rest = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        kept = rest[0].reshape(flat.shape) if rest else None
        grad_low = (grad @ up).mul_(ctx.scale)
        grad_up = (grad.t() @ low).mul_(ctx.scale).float()
        grad_down = (grad_low.t() @ (flat if kept is None else flat * kept)).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if kept is None:
                grad_x.addmm_(grad_low, down)
            else:
                grad_x.addcmul_(grad_low @ down, kept)
            grad_x = grad_x.reshape(*grads[0].shape[:-1], -1)
        return grad_x, None, None, grad_down, grad_up, None, None
