"""Sample on a server: one request for each row to score, and one for each distinct prompt to continue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

from core.engines.base import Usage
from core.engines.sampling import (
    ChoiceScores,
    GenerateParams,
    Generation,
    Report,
    Rows,
    derived_seed,
    require_tokens,
)
from core.engines.tinker.scoring import NotGiven, Scorer, prompt_logprobs
from core.engines.tinker.service import Client, RequestPool, RowError, SampleRequest, require_answers
from core.errors import StageError

# Seeds are 32 bits on some servers.
_SEEDS = 1 << 31


class TinkerSampler:
    """Implements core.engines.sampling.Sampler; one thread at a time.

    At most `outstanding` requests are in flight. A row that fails is recorded as failed; StageError is
    raised if all fail, and SessionLost if the session is over. Closing the sampler calls `on_close`.
    """

    def __init__(
        self, client: Client, *, outstanding: int, top_k: int, on_close: Callable[[], None] | None = None
    ) -> None:
        self._pool, self._on_close = RequestPool(client, outstanding), on_close
        self._scorer = Scorer(self._pool, top_k)

    @property
    def usage(self) -> Usage:
        """Tokens prefilled and sampled."""
        return self._pool.usage

    def score(self, prompts: Rows, choices: Rows, *, progress: Report | None = None) -> ChoiceScores:
        """Score choices, in one request a row if they share all but their last token; see scoring."""
        require_tokens(prompts, "prompt")
        require_tokens(choices, "choice")
        rows, forms = [tuple(prompt) for prompt in prompts], [tuple(choice) for choice in choices]
        return self._scorer.score(rows, forms, _by_rows(progress, len(rows), len(rows)))

    def logprobs(self, sequences: Rows) -> list[list[float]]:
        """Raises StageError if a request fails."""
        require_tokens(sequences, "sequence")
        rows = [i for i, row in enumerate(sequences) if len(row) > 1]
        requests = [SampleRequest(tuple(sequences[i]), {"include_prompt_logprobs": True}) for i in rows]
        answers = self._pool.send_all(requests, "log-probabilities", lambda done: None)
        found: list[list[float]] = [[] for _ in sequences]
        for i, answer in zip(rows, answers, strict=True):
            if isinstance(answer, RowError):
                raise StageError(f"the log-probabilities of sequence {i} failed: {answer.why}")
            length = len(sequences[i])
            try:
                values = list(prompt_logprobs(answer, length))[1:]
            except NotGiven:
                raise StageError("the server gives no log-probabilities of prompts") from None
            found[i] = [value for value in values if value is not None]
            if not (known := len(found[i])) == len(values) == length - 1:
                raise StageError(
                    f"the log-probabilities of sequence {i} came back incomplete: {known} of {length - 1}"
                )
        return found

    def generate(
        self, prompts: Rows, params: GenerateParams, *, progress: Report | None = None
    ) -> list[Generation]:
        """Continue each prompt. Equal adjacent prompts are one request, whose prompt is billed once.

        Its seed comes from (seed, the position of its first row).
        """
        require_tokens(prompts, "prompt")
        if params.max_tokens < 1:
            return [Generation((), (), "length") for _ in prompts]
        requests, position = list[SampleRequest](), 0
        for prompt, equal in groupby(tuple(prompt) for prompt in prompts):
            seeded = replace(params, seed=derived_seed(params.seed, position) % _SEEDS)
            requests.append(SampleRequest(prompt, {}, seeded, samples=len(list(equal))))
            position += requests[-1].samples
        report = _by_rows(progress, len(prompts), len(requests))
        answers = self._pool.send_all(requests, "completions", report)
        pairs = zip(requests, answers, strict=True)
        found = [generation for request, answer in pairs for generation in _generations(request, answer)]
        errors = {i: row.error for i, row in enumerate(found) if row.error is not None}
        require_answers(len(found), errors, "completions")
        return found

    def close(self) -> None:
        """No request is in flight between calls."""
        if self._on_close is not None:
            self._on_close()


def _generations(request: SampleRequest, answer: Any) -> list[Generation]:
    """Return one generation for each requested completion."""
    if isinstance(answer, RowError):
        return [Generation((), (), "error", answer.why)] * request.samples
    found = []
    for sequence in answer.sequences[: request.samples]:
        tokens, logprobs = tuple(sequence.tokens), tuple(sequence.logprobs or ())
        # Servers may return the stop token or not; one that does not support them continues after it.
        at = next((i for i, token in enumerate(tokens) if token in request.params.stop_tokens), None)
        if at is None:
            finish: Literal["stop", "length"] = "stop" if sequence.stop_reason == "stop" else "length"
            found.append(Generation(tokens, logprobs, finish))
        else:
            ended = (tokens[at], logprobs[at]) if len(logprobs) == len(tokens) else None
            found.append(Generation(tokens[:at], logprobs[:at], "stop", stop=ended))
    why = f"the answer has {len(found)} of {request.samples} completions"
    return found + [Generation((), (), "error", why)] * (request.samples - len(found))


def _by_rows(progress: Report | None, rows: int, requests: int) -> Callable[[int], None]:
    """Return a report of finished requests as a proportional number of rows."""
    if progress is None:
        return lambda done: None
    return lambda done: progress(done * rows // requests, rows)
