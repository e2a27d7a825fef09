"""Score choices and sequences and generate, in fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.engines import ChoiceScores, GenerateParams, Generation, choice_plan, derived_seed
from core.engines.local.attention import DecodingPlan, PrefixMemory, packs
from core.engines.local.model import Backbone
from core.engines.sampling import ChoicePlan, Report, Rows, require_tokens

# Positions whose logits are held at once: 512 of them over 49,152 words are 100 MB in fp32.
_LOGITS_AT_ONCE = 512
# A batch of 64 reads the weights once for 64 tokens; more rows bring little on a CPU.
_ROWS = {"cpu": 64, "cuda": 512}
# Keys and values kept for a batch at most, in tokens: 46 kB each with 135 M parameters.
_TOKENS = {"cpu": 32768, "cuda": 524288}
# Finished rows stay in the batch until they are this share of it.
_RETIRE = 0.25


class LocalSampler:
    """Implements core.engines.Sampler; one thread at a time."""

    def __init__(self, backbone: Backbone, *, budget: int) -> None:
        self._backbone, self._budget = backbone, budget

    def score(self, prompts: Rows, choices: Rows, *, progress: Report | None = None) -> ChoiceScores:
        require_tokens(prompts, "prompt")
        require_tokens(choices, "choice")
        scores = [[0.0] * len(choices) for _ in prompts]
        plan = choice_plan(choices)
        with torch.inference_mode():
            for done, (row, found) in enumerate(self._run_heads(prompts, plan), start=1):
                head, prompt = divmod(row, len(prompts))
                for choice in plan.members[head]:
                    steps = zip(found, plan.choices[choice], strict=False)
                    scores[prompt][choice] = sum(values[token] for values, token in steps)
                if progress is not None and done % len(plan.heads) == 0:
                    progress(done // len(plan.heads), len(prompts))
        return ChoiceScores(tuple(tuple(row) for row in scores), exact=True)

    def logprobs(self, sequences: Rows) -> list[list[float]]:
        require_tokens(sequences, "sequence")
        if not sequences:
            return []
        with torch.inference_mode():
            # One token less than is shared, so that the last prefix position predicts a token that all share.
            common = max(0, self._backbone.common(sequences, min(len(row) for row in sequences)) - 1)
            prefix, first = PrefixMemory(common), list[float]()
            if common:
                features = self._backbone.features([sequences[0][:common]], record=prefix)
                first = self._token_logprobs(features, sequences[0][1 : common + 1])
            result = [list(first) for _ in sequences]
            lengths = [len(row) - 1 - common for row in sequences]
            for pack in packs(lengths, self._budget, prefix=common):
                rows = [sequences[i][common:] for i in pack if lengths[i]]
                if rows:
                    features = self._backbone.features([row[:-1] for row in rows], prefix=prefix)
                    targets = [token for row in rows for token in row[1:]]
                    values = iter(self._token_logprobs(features, targets))
                    for i in pack:
                        result[i] += [next(values) for _ in range(lengths[i])]
        return result

    def generate(
        self, prompts: Rows, params: GenerateParams, *, progress: Report | None = None
    ) -> list[Generation]:
        """Continue each prompt; batching changes only rounding."""
        require_tokens(prompts, "prompt")
        if params.max_tokens < 1:
            return [Generation((), (), "length") for _ in prompts]
        rows = []
        for i, prompt in enumerate(prompts):
            draws = None
            if params.temperature > 0:
                generator = torch.Generator().manual_seed(derived_seed(params.seed, i))
                draws = torch.rand(params.max_tokens, generator=generator, dtype=torch.float64)
            rows.append(_Row(tuple(prompt), draws))
        run, done = _run_packed if self._backbone.shortcuts.packed else _run_one_by_one, 0
        with torch.inference_mode():
            for batch in run(self._backbone, rows, params):
                done += len(batch)
                if progress is not None:
                    progress(done, len(rows))
        return [
            Generation(tuple(r.tokens), tuple(r.logprobs), "stop" if r.stop else "length", stop=r.stop)
            for r in rows
        ]

    def close(self) -> None:
        del self._backbone

    def _run_heads(self, prompts: Rows, plan: ChoicePlan) -> Iterator[tuple[int, list[dict[int, float]]]]:
        """Run every head after every prompt; yield head * prompts + prompt, and each place's scores.

        These are the log-probabilities of the plan's tokens, from the prompt's last token on.
        """
        rows = [(*prompt, *head) for head in plan.heads for prompt in prompts]
        starts = [len(prompt) - 1 for _ in plan.heads for prompt in prompts]
        prefix = self._backbone.shared_prefix(rows, min(starts, default=0))
        common = prefix.length
        for pack in packs([len(row) - common for row in rows], self._budget, prefix=common):
            spans = [(starts[i] - common, len(rows[i]) - common) for i in pack]
            features = self._backbone.features([rows[i][common:] for i in pack], prefix=prefix)
            places, offset = list[int](), 0
            for first, length in spans:
                places.extend(range(offset + first, offset + length))
                offset += length
            chosen = features.index_select(0, torch.tensor(places, device=features.device))
            wanted = torch.tensor(plan.tokens, device=features.device)
            values: list[list[float]] = []
            for part in chosen.split(_LOGITS_AT_ONCE):
                logits = self._backbone.logits(part)
                values += (logits.index_select(1, wanted) - logits.logsumexp(1, keepdim=True)).tolist()
            each = iter(values)
            for i, (first, length) in zip(pack, spans, strict=True):
                yield i, [dict(zip(plan.tokens, next(each), strict=True)) for _ in range(length - first)]

    def _token_logprobs(self, features: Tensor, targets: Sequence[int]) -> list[float]:
        """Return the log-probability of targets[i] by features[i]."""
        ids = torch.tensor(targets, device=features.device)
        found: list[float] = []
        for part, names in zip(features.split(_LOGITS_AT_ONCE), ids.split(_LOGITS_AT_ONCE), strict=True):
            logits = self._backbone.logits(part)
            chosen = logits.gather(1, names[:, None])[:, 0] - logits.logsumexp(1)
            found.extend(chosen.tolist())
        return found


@dataclass(slots=True)
class _Row:
    prompt: tuple[int, ...]
    draws: Tensor | None
    """A uniform random number for each new token; None if greedy."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: tuple[int, float] | None = None
    finished: bool = False


def _run_packed(backbone: Backbone, rows: list[_Row], params: GenerateParams) -> Iterator[list[_Row]]:
    """Run batches of rows, longest prompts first, bounded in rows and in cached tokens."""
    shortest = min((len(row.prompt) for row in rows), default=1)
    prefix = backbone.shared_prefix([row.prompt for row in rows], shortest - 1)
    device, batches = backbone.device.type, list[list[_Row]]()
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        batch = batches[-1] if batches else []
        longest = len(batch[0].prompt) - prefix.length + params.max_tokens if batch else 0
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
