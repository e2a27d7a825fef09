"""Batched generation: a shared prefix once, rows of a batch one token at a time, finished rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.engines.base import GenerateParams, Generation
from core.engines.local.attention import PrefixMemory
from core.engines.local.backbone import Backbone
from core.engines.local.decoding import DecodingPlan
from core.engines.local.packing import shared_prefix
from core.engines.seeds import derived_seed

# A batch of 64 reads the weights once for 64 tokens; more rows bring little on a CPU.
_ROWS = {"cpu": 64, "cuda": 512}
# Keys and values kept for a batch at most, in tokens: 46 kB each with 135 M parameters.
_TOKENS = {"cpu": 32768, "cuda": 524288}
# Finished rows are carried along until they are this share of the batch.
_RETIRE = 0.25


@dataclass(slots=True)
class _Row:
    """One prompt being continued."""

    index: int
    tokens: tuple[int, ...]
    draws: Tensor | None
    """A uniform number for each token to come; None when greedy."""
    said: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str = ""
    stop: tuple[int, float] | None = None


def generate(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    params: GenerateParams,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Generation]:
    """Continue each prompt; tokens and log-probabilities (nats) come without the stop token.

    Log-probabilities are the model's own, before temperature. A row's random numbers come from
    (seed, its place in `prompts`), so batching changes nothing but rounding.
    """
    rows = [_Row(i, tuple(prompt), _draws(params, i)) for i, prompt in enumerate(prompts)]
    if params.max_tokens < 1:
        return [Generation((), (), "length") for _ in rows]
    done = 0
    for batch in (
        _run_all(backbone, rows, params) if backbone.shortcuts.packed else _run_alone(backbone, rows, params)
    ):
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))
    return [
        Generation(tuple(r.said), tuple(r.logprobs), "stop" if r.finish == "stop" else "length", stop=r.stop)
        for r in rows
    ]


def _draws(params: GenerateParams, index: int) -> Tensor | None:
    if params.temperature <= 0:
        return None
    dice = torch.Generator().manual_seed(derived_seed(params.seed, index))
    return torch.rand(params.max_tokens, generator=dice, dtype=torch.float64)


def _batches(rows: Sequence[_Row], max_tokens: int, common: int, device: str) -> list[list[_Row]]:
    """Batches of rows, longest prompts first, bounded in rows and in tokens kept."""
    batches: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        batch = batches[-1] if batches else []
        most = len(batch[0].tokens) - common + max_tokens if batch else 0
        if not batch or len(batch) >= _ROWS[device] or (len(batch) + 1) * most > _TOKENS[device]:
            batches.append([])
        batches[-1].append(row)
    return batches


def _run_all(backbone: Backbone, rows: list[_Row], params: GenerateParams) -> Iterator[list[_Row]]:
    shortest = min((len(row.tokens) for row in rows), default=1)
    common = shared_prefix([row.tokens for row in rows], shortest - 1)
    prefix = backbone.prefix(rows[0].tokens[:common] if common else ())
    for batch in _batches(rows, params.max_tokens, common, backbone.device.type):
        _run(backbone, batch, prefix, params)
        yield batch


def _run_alone(backbone: Backbone, rows: list[_Row], params: GenerateParams) -> Iterator[list[_Row]]:
    """One row at a time with the architecture's own cache: for architectures that refuse packing."""
    for row in rows:
        tokens, cache = torch.tensor([row.tokens], device=backbone.device), None
        living = [0]
        while living:
            out = backbone.model(input_ids=tokens, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            tokens = _choose(out.logits[:, -1].float(), [row], params)[None]
            living = _say([row], tokens[0], params)
        yield [row]


def _run(backbone: Backbone, rows: list[_Row], prefix: PrefixMemory, params: GenerateParams) -> None:
    record = PrefixMemory()
    lengths = [len(row.tokens) - prefix.length for row in rows]
    features = backbone.features([row.tokens[prefix.length :] for row in rows], prefix=prefix, record=record)
    last = torch.tensor(lengths, device=features.device).cumsum(0) - 1
    plan = DecodingPlan(prefix, record, lengths)
    chosen = _choose(backbone.logits(features.index_select(0, last)), rows, params)
    living = _say(rows, chosen, params)
    while living:
        if len(living) <= (1 - _RETIRE) * len(rows):
            plan.keep(torch.tensor(living, device=backbone.device))
            rows, chosen = [rows[i] for i in living], chosen[living]
        plan.advance()
        features = backbone.run(chosen[None], plan.places[None], plan)[0]
        chosen = _choose(backbone.logits(features), rows, params)
        living = _say(rows, chosen, params)


def _choose(logits: Tensor, rows: list[_Row], params: GenerateParams) -> Tensor:
    """Pick each row's next token and note its log-probability; finished rows' picks are not used."""
    if params.temperature <= 0:
        chosen = logits.argmax(1)
    else:
        sums = (logits.double() / params.temperature).softmax(1).cumsum(1)
        draws = [row.draws[min(len(row.said), len(row.draws) - 1)] for row in rows if row.draws is not None]
        bar = torch.stack(draws).to(logits.device)[:, None] * sums[:, -1:]
        chosen = torch.searchsorted(sums, bar, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    found = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(1)
    for row, value in zip(rows, found.tolist(), strict=True):
        if not row.finish:
            row.logprobs.append(value)
    return chosen


def _say(rows: list[_Row], chosen: Tensor, params: GenerateParams) -> list[int]:
    """Add the chosen tokens to the rows; returns the places of those that go on."""
    for row, token in zip(rows, chosen.tolist(), strict=True):
        if row.finish:
            continue
        if token in params.stop_tokens:
            row.finish = "stop"
            row.stop = token, row.logprobs.pop()
            continue
        row.said.append(token)
        if len(row.said) == params.max_tokens:
            row.finish = "length"
    return [i for i, row in enumerate(rows) if not row.finish]
