"""A base model in memory, which runs rows packed end to end, or padded if its architecture needs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from core.engines.local import attention
from core.engines.local.attention import Plan, PrefixMemory, packed_plan
from core.engines.sampling import Rows
from core.errors import ModelError

log = logging.getLogger(__name__)

# A shorter prefix is not worth a pass of its own.
_WORTH = 8
# Each row of a pack also holds the prefix's keys in attention: this many count as one token.
_KEYS_PER_TOKEN = 16
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


def packs(lengths: Sequence[int], budget: int, *, prefix: int = 0) -> Iterator[list[int]]:
    """Split rows, given by length, into packs of at least one row and about `budget` tokens.

    Yields indices, longest first.
    """
    pack, cost = list[int](), 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        price = lengths[i] + prefix // _KEYS_PER_TOKEN
        if pack and cost + price > budget:
            yield pack
            pack, cost = [], 0
        pack.append(i)
        cost += price
    if pack:
        yield pack
