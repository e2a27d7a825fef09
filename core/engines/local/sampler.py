"""Score choices and sequences and generate, in fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from core.engines.local import generation
from core.engines.local.attention import PrefixMemory
from core.engines.local.backbone import Backbone, packs
from core.engines.sampling import (
    ChoicePlan,
    ChoiceScores,
    GenerateParams,
    Generation,
    Report,
    Rows,
    choice_plan,
    require_tokens,
)

# Positions whose logits are held at once: 512 of them over 49,152 words are 100 MB in fp32.
_LOGITS_AT_ONCE = 512


class LocalSampler:
    """Implements core.engines.base.Sampler; one thread at a time."""

    def __init__(self, backbone: Backbone, *, budget: int) -> None:
        self._backbone, self._budget = backbone, budget

    def score(self, prompts: Rows, choices: Rows, *, progress: Report | None = None) -> ChoiceScores:
        """Score choices exactly; the prefix that all prompts share is computed once."""
        require_tokens(prompts, "prompt")
        require_tokens(choices, "choice")
        scores = [[0.0] * len(choices) for _ in prompts]
        plan = choice_plan(choices)
        with torch.inference_mode():
            for done, (row, found) in enumerate(self._run_heads(prompts, plan), start=1):
                head, prompt = divmod(row, len(prompts))
                for choice in plan.members[head]:
                    scores[prompt][choice] = sum(found[k][token] for k, token in plan.steps[choice])
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
        require_tokens(prompts, "prompt")
        with torch.inference_mode():
            return generation.generate(self._backbone, prompts, params, progress=progress)

    def close(self) -> None:
        del self._backbone

    def _run_heads(self, prompts: Rows, plan: ChoicePlan) -> Iterator[tuple[int, list[dict[int, float]]]]:
        """Run every head after every prompt.

        Yields head * prompts + prompt and, for each place from the prompt's last token on, the
        log-probability of each of the plan's tokens.
        """
        rows = [(*prompt, *head) for head in plan.heads for prompt in prompts]
        starts = [len(prompt) - 1 for _ in plan.heads for prompt in prompts]
        common = self._backbone.common(rows, min(starts, default=0))
        prefix = self._backbone.prefix(rows[0][:common] if common else ())
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
