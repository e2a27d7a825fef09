"""A sampler on a server: scores and log-probabilities, one request a row, and completions, one a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from core.engines.base import ChoiceScores, GenerateParams, Generation, Usage
from core.engines.seeds import derived_seed
from core.engines.tinker.asking import Asker, RowError
from core.engines.tinker.questions import NotGiven, Question, prompt_logprobs
from core.engines.tinker.scoring import PREFILL, Scorer, refuse_all_failed
from core.engines.tinker.service import Client
from core.engines.tinker.usage import Meter
from core.errors import DataError, StageError

Report = Callable[[int, int], None]
# Seeds are 32 bits on some servers.
_SEEDS = 1 << 31


class TinkerSampler:
    """Implements core.engines.base.Sampler; one thread at a time.

    At most `outstanding` requests are on their way. A row that fails is recorded as failed; where
    all do, StageError is raised, and SessionLost where the session is over. `closing` is called when
    the sampler is closed.
    """

    def __init__(
        self,
        client: Client,
        meter: Meter,
        *,
        outstanding: int,
        top_k: int,
        closing: Callable[[], None] | None = None,
    ) -> None:
        self._meter, self._closing = meter, closing
        self._asker = Asker(client, meter, outstanding)
        self._scorer = Scorer(self._asker, client.service.connection.server, top_k)

    @property
    def usage(self) -> Usage:
        """Tokens prefilled and sampled."""
        return self._meter.usage

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        choices: Sequence[Sequence[int]],
        *,
        progress: Report | None = None,
    ) -> ChoiceScores:
        """Log-probability (nats) of each choice directly after each prompt.

        One request a row where the choices share all but their last token. How the server is asked
        is settled by the first row and told in `method`: see questions. `progress(done, total)`
        counts prompts. Raises DataError for an empty prompt or choice.
        """
        _refuse_empty(prompts, "prompt")
        _refuse_empty(choices, "choice")
        rows, asked = [tuple(prompt) for prompt in prompts], [tuple(choice) for choice in choices]
        return self._scorer.score(rows, asked, _told(progress, len(rows), len(rows)))

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability (nats) of every token but the first; row i has len(sequences[i]) - 1 values.

        Raises DataError for an empty sequence, StageError where a request fails.
        """
        _refuse_empty(sequences, "sequence")
        options = {"include_prompt_logprobs": True}
        places = [i for i, row in enumerate(sequences) if len(row) > 1]
        asked = [(Question(tuple(sequences[i]), options), PREFILL) for i in places]
        answers = self._asker.ask(asked, "log-probabilities", _ignored)
        found: list[list[float]] = [[] for _ in sequences]
        for i, answer in zip(places, answers, strict=True):
            found[i] = _after_first(i, answer, len(sequences[i]))
        return found

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: GenerateParams,
        *,
        progress: Report | None = None,
    ) -> list[Generation]:
        """Continue each prompt until a stop token or `max_tokens`.

        Tokens and the server's log-probabilities (nats) come without the stop token. Equal prompts
        beside one another are one request, whose prompt is computed once; its seed comes from (seed,
        the place of its first row in `prompts`). Raises DataError for an empty prompt.
        """
        _refuse_empty(prompts, "prompt")
        if params.max_tokens < 1:
            return [Generation((), (), "length") for _ in prompts]
        asked, place = list[tuple[Question, GenerateParams]](), 0
        for prompt, equal in groupby(tuple(prompt) for prompt in prompts):
            seed = derived_seed(params.seed, place) % _SEEDS
            asked.append((Question(prompt, {}, samples=len(list(equal))), replace(params, seed=seed)))
            place += asked[-1][0].samples
        answers = self._asker.ask(asked, "completions", _told(progress, len(prompts), len(asked)))
        pairs = zip(asked, answers, strict=True)
        said = [one for (question, _), answer in pairs for one in _generations(question, answer, params)]
        errors = {i: row.error for i, row in enumerate(said) if row.error is not None}
        refuse_all_failed(len(said), errors, "completions")
        return said

    def close(self) -> None:
        """Nothing stays on its way between calls; a session that was begun for this alone ends."""
        if self._closing is not None:
            self._closing()


def _generations(question: Question, answer: Any, params: GenerateParams) -> list[Generation]:
    """One for each completion that was asked for."""
    if isinstance(answer, RowError):
        return [Generation((), (), "error", answer.why)] * question.samples
    said = [_generation(sequence, params) for sequence in answer.sequences[: question.samples]]
    why = f"the answer has {len(said)} of {question.samples} completions"
    return said + [Generation((), (), "error", why)] * (question.samples - len(said))


def _generation(sequence: Any, params: GenerateParams) -> Generation:
    tokens, logprobs = tuple(sequence.tokens), tuple(sequence.logprobs or ())
    # Servers differ in whether they give the stop token back; one that does not know it goes on after it.
    at = next((i for i, token in enumerate(tokens) if token in params.stop_tokens), None)
    if at is not None:
        ended = (tokens[at], logprobs[at]) if len(logprobs) == len(tokens) else None
        return Generation(tokens[:at], logprobs[:at], "stop", stop=ended)
    return Generation(tokens, logprobs, "stop" if sequence.stop_reason == "stop" else "length")


def _after_first(row: int, answer: Any, length: int) -> list[float]:
    if isinstance(answer, RowError):
        raise StageError(f"the log-probabilities of sequence {row} failed: {answer.why}")
    try:
        values = list(prompt_logprobs(answer, length))[1:]
    except NotGiven:
        raise StageError("the server gives no log-probabilities of prompts") from None
    known = [value for value in values if value is not None]
    if not len(known) == len(values) == length - 1:
        raise StageError(
            f"the log-probabilities of sequence {row} came back incomplete: {len(known)} of {length - 1}"
        )
    return known


def _told(progress: Report | None, rows: int, requests: int) -> Callable[[int], None]:
    """Tells of rows, in proportion, when it is told of requests."""
    return (lambda done: progress(done * rows // requests, rows)) if progress is not None else _ignored


def _ignored(done: int) -> None: ...


def _refuse_empty(rows: Sequence[Sequence[int]], what: str) -> None:
    for i, row in enumerate(rows):
        if not row:
            raise DataError(f"{what} {i} has no tokens, so there is nothing to score or continue; drop it")
