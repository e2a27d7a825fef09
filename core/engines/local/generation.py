"""Generate completions in batches behind a shared prefix, with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.engines.local.attention import Call, PrefixMemory
from core.engines.local.backbone import Backbone
from core.engines.sampling import GenerateParams, Generation, Report, Rows, derived_seed

# A batch of 64 reads the weights once for 64 tokens; more rows bring little on a CPU.
_ROWS = {"cpu": 64, "cuda": 512}
# Keys and values kept for a batch at most, in tokens: 46 kB each with 135 M parameters.
_TOKENS = {"cpu": 32768, "cuda": 524288}
# Finished rows stay in the batch until they are this share of it.
_RETIRE = 0.25
# The cache grows by this many tokens at a time.
_BLOCK = 64


@dataclass(slots=True)
class _Row:
    prompt: tuple[int, ...]
    draws: Tensor | None
    """A uniform random number for each new token; None if greedy."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: tuple[int, float] | None = None
    finished: bool = False


def generate(
    backbone: Backbone, prompts: Rows, params: GenerateParams, *, progress: Report | None = None
) -> list[Generation]:
    """Continue each prompt; see Sampler.generate. Batching changes only rounding."""
    if params.max_tokens < 1:
        return [Generation((), (), "length") for _ in prompts]
    rows = []
    for i, prompt in enumerate(prompts):
        draws = None
        if params.temperature > 0:
            generator = torch.Generator().manual_seed(derived_seed(params.seed, i))
            draws = torch.rand(params.max_tokens, generator=generator, dtype=torch.float64)
        rows.append(_Row(tuple(prompt), draws))
    run, done = _run_packed if backbone.shortcuts.packed else _run_one_by_one, 0
    for batch in run(backbone, rows, params):
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))
    return [
        Generation(tuple(row.tokens), tuple(row.logprobs), "stop" if row.stop else "length", stop=row.stop)
        for row in rows
    ]


def _run_packed(backbone: Backbone, rows: list[_Row], params: GenerateParams) -> Iterator[list[_Row]]:
    """Run batches of rows, longest prompts first, bounded in rows and in cached tokens."""
    shortest = min((len(row.prompt) for row in rows), default=1)
    common = backbone.common([row.prompt for row in rows], shortest - 1)
    prefix = backbone.prefix(rows[0].prompt[:common] if common else ())
    device, batches = backbone.device.type, list[list[_Row]]()
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        batch = batches[-1] if batches else []
        longest = len(batch[0].prompt) - common + params.max_tokens if batch else 0
        if not batch or len(batch) >= _ROWS[device] or (len(batch) + 1) * longest > _TOKENS[device]:
            batches.append([])
        batches[-1].append(row)
    for batch in batches:
        _run_batch(backbone, batch, prefix, params)
        yield batch


def _run_one_by_one(backbone: Backbone, rows: list[_Row], params: GenerateParams) -> Iterator[list[_Row]]:
    """Run one row at a time with the architecture's own cache, for architectures without packing."""
    for row in rows:
        tokens, cache = torch.tensor([row.prompt], device=backbone.device), None
        while not row.finished:
            out = backbone.model(input_ids=tokens, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            tokens = _choose(out.logits[:, -1].float(), [row], params)[None]
            _append([row], tokens[0], params)
        yield [row]


def _run_batch(backbone: Backbone, rows: list[_Row], prefix: PrefixMemory, params: GenerateParams) -> None:
    tails, record = [row.prompt[prefix.length :] for row in rows], PrefixMemory()
    features = backbone.features(tails, prefix=prefix, record=record)
    lengths = [len(tail) for tail in tails]
    last = torch.tensor(lengths, device=features.device).cumsum(0) - 1
    plan = DecodingPlan(prefix, record, lengths)
    chosen = _choose(backbone.logits(features.index_select(0, last)), rows, params)
    while living := _append(rows, chosen, params):
        if len(living) <= (1 - _RETIRE) * len(rows):
            plan.keep(torch.tensor(living, device=backbone.device))
            rows, chosen = [rows[i] for i in living], chosen[living]
        plan.advance()
        features = backbone.run(chosen[None], plan.places[None], plan)[0]
        chosen = _choose(backbone.logits(features), rows, params)


def _choose(logits: Tensor, rows: list[_Row], params: GenerateParams) -> Tensor:
    """Choose each row's next token and record its log-probability; those of finished rows are not used."""
    if params.temperature <= 0:
        chosen = logits.argmax(1)
    else:
        sums = (logits.double() / params.temperature).softmax(1).cumsum(1)
        draws = [row.draws[min(len(row.tokens), len(row.draws) - 1)] for row in rows if row.draws is not None]
        bar = torch.stack(draws).to(logits.device)[:, None] * sums[:, -1:]
        chosen = torch.searchsorted(sums, bar, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    found = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(1)
    for row, value in zip(rows, found.tolist(), strict=True):
        if not row.finished:
            row.logprobs.append(value)
    return chosen


def _append(rows: list[_Row], chosen: Tensor, params: GenerateParams) -> list[int]:
    """Append the chosen tokens; return the indices of the rows that continue."""
    for row, token in zip(rows, chosen.tolist(), strict=True):
        if row.finished:
            continue
        if token in params.stop_tokens:
            row.stop, row.finished = (token, row.logprobs.pop()), True
            continue
        row.tokens.append(token)
        row.finished = len(row.tokens) == params.max_tokens
    return [i for i, row in enumerate(rows) if not row.finished]


class DecodingPlan:
    """Attention for one new token per row, over a shared prefix and each row's own keys and values.

    The prefix is stored once. The own columns are a row's prompt from the left, padding up to the longest
    prompt, then one column for each new token.
    """

    def __init__(self, prefix: PrefixMemory, record: PrefixMemory, lengths: Sequence[int]) -> None:
        self._prefix = prefix
        device = next(iter(record.layers.values()))[0].device
        self._lengths = torch.tensor(lengths, device=device)
        self._column = max(lengths) - 1
        self._first_new = max(lengths)
        self._real = torch.arange(max(lengths), device=device)[None, :] < self._lengths[:, None]
        self._own = {i: (self._grid(k), self._grid(v)) for i, (k, v) in record.layers.items()}
        self.places = prefix.length + self._lengths - 1

    def _grid(self, packed: Tensor) -> Tensor:
        """(1, kv heads, n, d) laid end to end -> (rows, kv heads, longest, d)."""
        flat = packed[0].transpose(0, 1)
        grid = flat.new_zeros(*self._real.shape, *flat.shape[1:])
        grid[self._real] = flat
        return grid.transpose(1, 2).contiguous()

    def advance(self) -> None:
        """Add a column for the next token of every row."""
        self._column += 1
        self.places = self.places + 1
        if self._column == self._real.shape[1]:
            self._real = _wider(self._real, 1)
            self._own = {i: (_wider(k, 2), _wider(v, 2)) for i, (k, v) in self._own.items()}
        self._real[:, self._column] = True

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self._real, self.places, self._lengths = self._real[rows], self.places[rows], self._lengths[rows]
        self._own = {i: (k[rows], v[rows]) for i, (k, v) in self._own.items()}

    def attend(self, call: Call) -> Tensor:
        keys, values = self._own[call.layer]
        keys[:, :, self._column] = call.key[0].transpose(0, 1)
        values[:, :, self._column] = call.value[0].transpose(0, 1)
        upto = self._column + 1
        rows, kv_heads, width = keys.shape[0], keys.shape[1], keys.shape[3]
        scale = call.scale if call.scale is not None else width**-0.5
        q = call.query[0].transpose(0, 1).reshape(rows, kv_heads, -1, width) * scale
        visible = self._real[:, :upto]
        if call.window is not None:
            columns = torch.arange(upto, device=keys.device)[None, :]
            gap = (self._first_new - self._lengths)[:, None]
            place = self._prefix.length + columns - torch.where(columns >= self._first_new, gap, 0)
            visible = visible & (self.places[:, None] - place < call.window)
        scores = q @ keys[:, :, :upto].transpose(2, 3)
        scores = scores.masked_fill(~visible[:, None, None], float("-inf"))
        if not self._prefix.length:
            return _joined(scores.softmax(3) @ values[:, :, :upto])
        old_keys, old_values = self._prefix.layers[call.layer]
        old = _over_prefix(q, old_keys.transpose(2, 3))
        if call.window is not None:
            columns = torch.arange(self._prefix.length, device=self.places.device)[None, :]
            visible = self.places[:, None] - columns < call.window
            old = old.masked_fill(~visible[:, None, None], float("-inf"))
        shares = torch.cat([old, scores], dim=3).softmax(3)
        before, own = shares.split([self._prefix.length, upto], dim=3)
        return _joined(_over_prefix(before, old_values) + own @ values[:, :, :upto])


def _over_prefix(rows: Tensor, shared: Tensor) -> Tensor:
    """(rows, kv heads, share, a) by one (1, kv heads, a, b) -> (rows, kv heads, share, b), one product."""
    count, kv_heads, share, _ = rows.shape
    out = rows.transpose(0, 1).reshape(kv_heads, count * share, -1) @ shared[0]
    return out.reshape(kv_heads, count, share, -1).transpose(0, 1)


def _joined(out: Tensor) -> Tensor:
    """(rows, kv heads, share, d) -> (1, heads, rows, d)."""
    return out.reshape(out.shape[0], -1, out.shape[3]).transpose(0, 1)[None]


def _wider(tensor: Tensor, axis: int) -> Tensor:
    shape = list(tensor.shape)
    shape[axis] = _BLOCK
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
