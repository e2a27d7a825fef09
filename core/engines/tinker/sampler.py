"""Sample on a server: one request for each row to score, and one for each distinct prompt to continue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from core.engines.base import EngineUsage
from core.engines.sampling import (
    ChoiceScores,
    GenerateParams,
    Generation,
    Report,
    Rows,
    derived_seed,
    require_tokens,
)
from core.engines.tinker import scoring, sdk
from core.engines.tinker.scoring import Incomplete, Method, NotGiven, RowScore, SampleRequest, Tokens
from core.engines.tinker.service import Client, plain, settle
from core.errors import ConfigError, SessionLost, StageError

log = logging.getLogger(__name__)

# Seeds are 32 bits on some servers.
_SEEDS = 1 << 31


@dataclass(frozen=True, slots=True)
class RowError:
    """A request that failed alone; the others may succeed."""

    why: str


class TinkerSampler:
    """Implements core.engines.sampling.Sampler; one thread at a time.

    At most `outstanding` requests are in flight. A row that fails is recorded as failed; StageError is
    raised if all fail, and SessionLost if the session is over. Closing the sampler calls `on_close`.
    """

    def __init__(
        self, client: Client, *, outstanding: int, on_close: Callable[[], None] | None = None
    ) -> None:
        self._client, self._outstanding, self._on_close = client, outstanding, on_close
        self._server = client.service.connection.server
        self._method: str | None = None
        self.usage = EngineUsage()

    def score(self, prompts: Rows, choices: Rows, *, progress: Report | None = None) -> ChoiceScores:
        """Score choices, in one request a row if they share all but their last token; see scoring.

        The first row that is scored decides the method.
        """
        require_tokens(prompts, "prompt")
        require_tokens(choices, "choice")
        report, todo = progress or _silent, [tuple(prompt) for prompt in prompts]
        known, rows = scoring.methods(choices), list[RowScore | RowError]()
        method = next((each for each in known if each.name == self._method), None)
        while method is None and len(rows) < len(todo):
            row, method = self._try_methods(todo[len(rows)], known)
            rows.append(row)
            report(len(rows), len(todo))
        if method is not None:
            if self._method is None and not isinstance(method, scoring.TargetLogprobs):
                log.warning("%s does not score named tokens: using %s", self._server, method.name)
            self._method, begun = method.name, len(rows)
            rows += self._score_rows(method, todo[begun:], lambda done, _: report(begun + done, len(todo)))
        errors = {i: row.why for i, row in enumerate(rows) if isinstance(row, RowError)}
        _require_answers(len(rows), errors, "scores")
        scored = {i: row for i, row in enumerate(rows) if isinstance(row, RowScore)}
        bounds = tuple((i, choice) for i, row in scored.items() for choice in row.bounds)
        return ChoiceScores(
            logprobs=tuple(scored[i].logprobs if i in scored else () for i in range(len(rows))),
            exact=not bounds,
            bounds=bounds,
            errors=errors,
            method=self._method or "none",
        )

    def logprobs(self, sequences: Rows) -> list[list[float]]:
        """Raises StageError if a request fails."""
        require_tokens(sequences, "sequence")
        rows = [i for i, row in enumerate(sequences) if len(row) > 1]
        requests = [SampleRequest(tuple(sequences[i]), {"include_prompt_logprobs": True}) for i in rows]
        found: list[list[float]] = [[] for _ in sequences]
        for i, answer in zip(rows, self._send_all(requests, "log-probabilities", _silent), strict=True):
            if isinstance(answer, RowError):
                raise StageError(f"the log-probabilities of sequence {i} failed: {answer.why}")
            length = len(sequences[i])
            try:
                values = list(scoring.prompt_logprobs(answer, length))[1:]
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
        report, rows = progress or _silent, len(prompts)
        answers = self._send_all(requests, "completions", lambda done, of: report(done * rows // of, rows))
        pairs = zip(requests, answers, strict=True)
        found = [generation for request, answer in pairs for generation in generations(request, answer)]
        errors = {i: row.error for i, row in enumerate(found) if row.error is not None}
        _require_answers(len(found), errors, "completions")
        return found

    def close(self) -> None:
        """No request is in flight between calls."""
        if self._on_close is not None:
            self._on_close()

    def _try_methods(
        self, prompt: Tokens, known: Sequence[Method]
    ) -> tuple[RowScore | RowError, Method | None]:
        """Return a row's score and the method that gave it; a row that failed alone decides none."""
        for method in known:
            try:
                (row,) = self._score_rows(method, [prompt], _silent)
            except NotGiven:
                continue
            return row, method if isinstance(row, RowScore) else None
        raise StageError(f"{self._server} returns no log-probabilities of prompts: it cannot score rows")

    def _score_rows(
        self, method: Method, prompts: Sequence[Tokens], report: Report
    ) -> list[RowScore | RowError]:
        requests, rows = [method.requests(prompt) for prompt in prompts], list[RowScore | RowError]()
        flat = [request for row in requests for request in row]
        answers = iter(
            self._send_all(flat, "scores", lambda done, of: report(done * len(prompts) // of, len(prompts)))
        )
        for prompt, sent in zip(prompts, requests, strict=True):
            given = [next(answers) for _ in sent]
            failed = next((answer for answer in given if isinstance(answer, RowError)), None)
            try:
                rows.append(failed or method.read(prompt, given))
            except Incomplete as error:
                rows.append(RowError(str(error)))
        return rows

    def _send_all(self, requests: Sequence[SampleRequest], what: str, report: Report) -> list[Any]:
        """Return the answer to each, or its RowError, in order; `report` receives the number of answers.

        Raises SessionLost, ConfigError; then no request is left in flight.
        """
        answers: list[Any] = [None] * len(requests)
        waiting: dict[Future[Any], int] = {}
        sent, service = 0, self._client.service
        try:
            while sent < len(requests) or waiting:
                while sent < len(requests) and len(waiting) < self._outstanding:
                    waiting[self._send(requests[sent])] = sent
                    sent += 1
                for future in service.first(waiting, f"{what}, {sent - len(waiting)} of {len(requests)}"):
                    answers[waiting.pop(future)] = self._answer(future, what)
                    report(sent - len(waiting), len(requests))
        finally:
            settle(waiting)
        return answers

    def _send(self, request: SampleRequest) -> Future[Any]:
        types, params = sdk.load().types, request.params
        self.usage += EngineUsage(prefilled=len(request.prompt), requests=1)
        return plain(
            self._client.sdk.sample(
                prompt=types.ModelInput.from_ints(list(request.prompt)),
                num_samples=request.samples,
                sampling_params=types.SamplingParams(
                    max_tokens=params.max_tokens,
                    seed=params.seed,
                    stop=list(params.stop_tokens),
                    temperature=params.temperature,
                    top_k=-1,
                    top_p=1.0,
                ),
                **request.options,
            )
        )

    def _answer(self, future: Future[Any], what: str) -> Any:
        """Return an answer or a RowError; raise an error that ends the session."""
        try:
            answer = future.result()
        except Exception as error:
            if isinstance(error, sdk.load().RequestFailedError):
                return RowError(sdk.reason(error))
            found = self._client.failed(error, what)
            if isinstance(found, SessionLost | ConfigError):
                raise found from error
            return RowError(str(found))
        self.usage += EngineUsage(sampled=sum(len(sequence.tokens) for sequence in answer.sequences))
        return answer


def generations(request: SampleRequest, answer: Any) -> list[Generation]:
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


def _require_answers(rows: int, errors: dict[int, str], what: str) -> None:
    if rows and len(errors) == rows:
        raise StageError(f"none of {rows} requests for {what} was answered; the first error: {errors[0]}")


def _silent(done: int, total: int) -> None:
    """Report nothing."""
