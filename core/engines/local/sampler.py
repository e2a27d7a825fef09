"""A sampler: scores choices and sequences and generates, in fp32, on a model object of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from core.engines.base import ChoiceScores, GenerateParams, Generation
from core.engines.choices import ChoicePlan, choice_plan
from core.engines.local import generation
from core.engines.local.attention import PrefixMemory
from core.engines.local.backbone import Backbone
from core.engines.local.packing import packs, shared_prefix
from core.errors import DataError

# Positions whose logits are held at once: 512 of them over 49,152 words are 100 MB in fp32.
_LOGITS_AT_ONCE = 512

Report = Callable[[int, int], None]


class LocalSampler:
    """Implements core.engines.base.Sampler; one thread at a time."""

    def __init__(self, backbone: Backbone, *, budget: int) -> None:
        self._backbone, self._budget = backbone, budget

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        choices: Sequence[Sequence[int]],
        *,
        progress: Report | None = None,
    ) -> ChoiceScores:
        """Log-probability (nats) of each choice directly after each prompt, exact, in fp32.

        What all prompts begin with is computed once; choices that share all but their last token
        cost one pass together. `progress(done, total)` counts prompts. Raises DataError for an
        empty prompt or choice.
        """
        _refuse_empty(prompts, "prompt")
        _refuse_empty(choices, "choice")
        scores = [[0.0] * len(choices) for _ in prompts]
        plan = choice_plan(choices)
        with torch.inference_mode():
            for done, (row, found) in enumerate(self._walk(prompts, plan), start=1):
                head, prompt = divmod(row, len(prompts))
                for choice in plan.members[head]:
                    scores[prompt][choice] = sum(found[k][token] for k, token in plan.steps[choice])
                if progress is not None and done % len(plan.heads) == 0:
                    progress(done // len(plan.heads), len(prompts))
        return ChoiceScores(tuple(tuple(row) for row in scores), exact=True)

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability (nats) of every token but the first; row i has len(sequences[i]) - 1 values.

        Raises DataError for an empty sequence.
        """
        _refuse_empty(sequences, "sequence")
        with torch.inference_mode():
            # One less than is shared: the last prefix position then predicts a token that all share.
            shortest = min((len(row) for row in sequences), default=0)
            common = max(0, self._common(sequences, shortest) - 1)
            prefix, first = PrefixMemory(common), list[float]()
            if common:
                features = self._backbone.features([sequences[0][:common]], record=prefix)
                first = self._token_logprobs(features, sequences[0][1 : common + 1])
            return [[*first, *rest] for rest in self._rest_logprobs(sequences, prefix)]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: GenerateParams,
        *,
        progress: Report | None = None,
    ) -> list[Generation]:
        """Continue each prompt until a stop token or `max_tokens`; see generation.generate.

        Raises DataError for an empty prompt.
        """
        _refuse_empty(prompts, "prompt")
        with torch.inference_mode():
            return generation.generate(self._backbone, prompts, params, progress=progress)

    def close(self) -> None:
        del self._backbone

    def _common(self, rows: Sequence[Sequence[int]], limit: int) -> int:
        return shared_prefix(rows, limit) if self._backbone.shortcuts.packed else 0

    def _walk(
        self, prompts: Sequence[Sequence[int]], plan: ChoicePlan
    ) -> Iterator[tuple[int, list[dict[int, float]]]]:
        """Run every head after every prompt; yields head * prompts + prompt and, for each place from
        the prompt's last token on, the log-probability of each token asked for there."""
        rows = [(*prompt, *head) for head in plan.heads for prompt in prompts]
        starts = [len(prompt) - 1 for _ in plan.heads for prompt in prompts]
        common = self._common(rows, min(starts, default=0))
        prefix = self._backbone.prefix(rows[0][:common] if common else ())
        for pack in packs([len(row) - common for row in rows], self._budget, prefix=common):
            spans = [(starts[i] - common, len(rows[i]) - common) for i in pack]
            features = self._backbone.features([rows[i][common:] for i in pack], prefix=prefix)
            yield from zip(pack, self._at(features, spans, plan.tokens), strict=True)

    def _at(
        self, features: Tensor, spans: Sequence[tuple[int, int]], tokens: Sequence[int]
    ) -> Iterator[list[dict[int, float]]]:
        """Log-probabilities of `tokens` at the places (first, length of the row) of each row."""
        places, offset = list[int](), 0
        for first, length in spans:
            places.extend(range(offset + first, offset + length))
            offset += length
        chosen = features.index_select(0, torch.tensor(places, device=features.device))
        wanted = torch.tensor(tokens, device=features.device)
        values = (
            row.tolist()
            for part in chosen.split(_LOGITS_AT_ONCE)
            for row in _log_softmax_at(self._backbone.logits(part), wanted)
        )
        for first, length in spans:
            yield [dict(zip(tokens, next(values), strict=True)) for _ in range(length - first)]

    def _rest_logprobs(self, sequences: Sequence[Sequence[int]], prefix: PrefixMemory) -> list[list[float]]:
        result: list[list[float]] = [[] for _ in sequences]
        lengths = [len(row) - 1 - prefix.length for row in sequences]
        for pack in packs(lengths, self._budget, prefix=prefix.length):
            rows = [sequences[i][prefix.length :] for i in pack if lengths[i]]
            if rows:
                features = self._backbone.features([row[:-1] for row in rows], prefix=prefix)
                values = iter(self._token_logprobs(features, [token for row in rows for token in row[1:]]))
                for i in pack:
                    result[i] = [next(values) for _ in range(lengths[i])]
        return result

    def _token_logprobs(self, features: Tensor, targets: Sequence[int]) -> list[float]:
        """Log-probability of targets[i] by features[i]."""
        ids = torch.tensor(targets, device=features.device)
        found: list[float] = []
        for part, names in zip(features.split(_LOGITS_AT_ONCE), ids.split(_LOGITS_AT_ONCE), strict=True):
            logits = self._backbone.logits(part)
            chosen = logits.gather(1, names[:, None])[:, 0] - logits.logsumexp(1)
            found.extend(chosen.tolist())
        return found


def _log_softmax_at(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.index_select(1, tokens) - logits.logsumexp(1, keepdim=True)


def _refuse_empty(rows: Sequence[Sequence[int]], what: str) -> None:
    for i, row in enumerate(rows):
        if not row:
            raise DataError(f"{what} {i} has no tokens, so there is nothing to score or continue; drop it")
