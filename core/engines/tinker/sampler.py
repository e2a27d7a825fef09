"""Sample on a server: one request for each row to score, and one for each distinct prompt to continue."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import Any, Literal

from core.engines import ChoiceScores, EngineUsage, GenerateParams, Generation, choice_plan, derived_seed
from core.engines.sampling import ChoicePlan, Report, Rows, require_tokens
from core.engines.tinker.service import Client, has_current_sdk, load_sdk, plain, server_reason, settle
from core.errors import ConfigError, SessionLost, StageError

log = logging.getLogger(__name__)

TOP_K = 20
# Seeds are 32 bits on some servers.
_SEEDS = 1 << 31
Tokens = tuple[int, ...]
PREFILL = GenerateParams(max_tokens=1)
"""A prompt is computed by sampling one token after it."""


class NotGiven(Exception):
    """The server ignored the option: it does not support this method."""


class RowError(Exception):
    """A request that failed alone, or whose answer is incomplete; the others may succeed."""


class TinkerSampler:
    """Implements core.engines.Sampler; one thread at a time.

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
        """Score choices, in one request a row if they share all but their last token.

        The first row that is scored decides the method.
        """
        require_tokens(prompts, "prompt")
        require_tokens(choices, "choice")
        report, todo = progress or _silent, [tuple(prompt) for prompt in prompts]
        known, rows = methods(choices), list[Scored]()
        method = next((each for each in known if each.name == self._method), None)
        while method is None and len(rows) < len(todo):
            row, method = self._try_methods(todo[len(rows)], known)
            rows.append(row)
            report(len(rows), len(todo))
        if method is not None:
            if self._method is None and not isinstance(method, TargetLogprobs):
                log.warning("%s does not score named tokens: using %s", self._server, method.name)
            self._method, begun = method.name, len(rows)
            rows += self._score_rows(method, todo[begun:], lambda done, _: report(begun + done, len(todo)))
        errors = {i: str(row) for i, row in enumerate(rows) if isinstance(row, RowError)}
        _require_answers(len(rows), errors, "scores")
        scored = [row if isinstance(row, RowScore) else RowScore(()) for row in rows]
        bounds = tuple((i, choice) for i, row in enumerate(scored) for choice in row.bounds)
        return ChoiceScores(
            logprobs=tuple(row.logprobs for row in scored),
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
                raise StageError(f"the log-probabilities of sequence {i} failed: {answer}")
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

    def _try_methods(self, prompt: Tokens, known: Sequence[Method]) -> tuple[Scored, Method | None]:
        """Return a row's score and the method that gave it; a row that failed alone decides none."""
        for method in known:
            try:
                (row,) = self._score_rows(method, [prompt], _silent)
            except NotGiven:
                continue
            return row, method if isinstance(row, RowScore) else None
        raise StageError(f"{self._server} returns no log-probabilities of prompts: it cannot score rows")

    def _score_rows(self, method: Method, prompts: Sequence[Tokens], report: Report) -> list[Scored]:
        size, requests, rows = len(prompts), [method.requests(prompt) for prompt in prompts], list[Scored]()
        flat = [request for row in requests for request in row]
        answers = iter(self._send_all(flat, "scores", lambda done, of: report(done * size // of, size)))
        for prompt, sent in zip(prompts, requests, strict=True):
            given = [next(answers) for _ in sent]
            failed = next((answer for answer in given if isinstance(answer, RowError)), None)
            try:
                rows.append(failed or method.read(prompt, given))
            except RowError as error:
                rows.append(error)
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
        types, params = load_sdk().types, request.params
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
            if isinstance(error, load_sdk().RequestFailedError):
                return RowError(server_reason(error))
            found = self._client.failed(error, what)
            if isinstance(found, SessionLost | ConfigError):
                raise found from error
            return RowError(str(found))
        self.usage += EngineUsage(sampled=sum(len(sequence.tokens) for sequence in answer.sequences))
        return answer


def generations(request: SampleRequest, answer: Any) -> list[Generation]:
    """Return one generation for each requested completion."""
    if isinstance(answer, RowError):
        return [Generation((), (), "error", str(answer))] * request.samples
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


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A prompt to compute and its options, and how many continuations to sample with `params`."""

    prompt: Tokens
    options: dict[str, Any]
    params: GenerateParams = PREFILL
    samples: int = 1


@dataclass(frozen=True, slots=True)
class RowScore:
    """Log-probabilities (nats) of all choices after one prompt; `bounds` are the choices with a bound."""

    logprobs: tuple[float, ...]
    bounds: tuple[int, ...] = ()


Scored = RowScore | RowError


@dataclass(frozen=True, slots=True)
class TargetLogprobs:
    """Names the tokens at each place: exact values in one request a row (SDK 0.38 and later)."""

    plan: ChoicePlan
    name: str = "target_prompt_logprobs"

    def requests(self, prompt: Tokens) -> list[SampleRequest]:
        requests = []
        for head, tail in enumerate(self.plan.heads):
            named = self._named(head)
            # The last token is at a choice's place; it does not affect the places before it.
            whole = (*prompt, *tail, self.plan.tokens[0])
            pointers = [*[0] * (len(prompt) - 1), *accumulate(map(len, named), initial=0)]
            tensor = load_sdk().types.TensorData(
                data=[token for tokens in named for token in tokens],
                dtype="int64",
                shape=[len(whole) - 1, max(map(len, named))],
                sparse_crow_indices=pointers,
                sparse_col_indices=[i for tokens in named for i in range(len(tokens))],
            )
            requests.append(SampleRequest(whole, {"target_prompt_logprobs": tensor}))
        return requests

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values = [0.0] * len(self.plan.choices)
        for head, answer in enumerate(answers):
            tensor, named = answer.target_prompt_logprobs, self._named(head)
            if tensor is None:
                raise NotGiven
            starts = tensor.sparse_crow_indices
            if starts is None:  # dense
                places = [divmod(i, tensor.shape[1]) for i in range(len(tensor.data))]
            else:
                rows = [row for row, (a, b) in enumerate(pairwise(starts)) for _ in range(a, b)]
                places = list(zip(rows, tensor.sparse_col_indices, strict=True))
            cells = dict(zip(places, tensor.data, strict=True))
            for choice in self.plan.members[head]:
                for place, token in enumerate(self.plan.choices[choice]):
                    cell = len(prompt) - 1 + place, named[place].index(token)
                    values[choice] += _require(cells, cell, place)
        return RowScore(tuple(values))

    def _named(self, head: int) -> list[list[int]]:
        """For each place after the prompt, the tokens that are scored there, in order."""
        forms = [self.plan.choices[choice] for choice in self.plan.members[head]]
        places = range(len(self.plan.heads[head]) + 1)
        return [list(dict.fromkeys(form[at] for form in forms if at < len(form))) for at in places]


@dataclass(frozen=True, slots=True)
class TopLogprobs:
    """Gets the most likely tokens at the label's place and the prompt's own log-probabilities: one request a
    row, and an upper bound for a choice that is not among the most likely."""

    plan: ChoicePlan
    name: str = "topk_prompt_logprobs"

    def requests(self, prompt: Tokens) -> list[SampleRequest]:
        options = {"include_prompt_logprobs": True, "topk_prompt_logprobs": TOP_K}
        return [SampleRequest((*prompt, *head, self.plan.tokens[0]), options) for head in self.plan.heads]

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values, bounds = [0.0] * len(self.plan.choices), set[int]()
        for head, answer in enumerate(answers):
            listing, tail = answer.topk_prompt_logprobs, self.plan.heads[head]
            if listing is None:
                raise NotGiven
            own = dict(enumerate(prompt_logprobs(answer, len(prompt) + len(tail) + 1)))
            for choice in self.plan.members[head]:
                for place, token in enumerate(self.plan.choices[choice]):
                    at = len(prompt) + place
                    if tail[place : place + 1] == (token,):
                        values[choice] += _require(own, at, place)
                        continue
                    listed = dict(listing[at] or ()) if at < len(listing) else {}
                    if listed and token not in listed:
                        bounds.add(choice)
                        listed[token] = bound(list(listed.values()))
                    values[choice] += _require(listed, token, place)
        return RowScore(tuple(values), tuple(sorted(bounds)))


@dataclass(frozen=True, slots=True)
class EachChoice:
    """Gets each choice as the end of a prompt: exact values on every server, in one request a choice."""

    choices: tuple[Tokens, ...]
    name: str = "prompt_logprobs, one request a choice"

    def requests(self, prompt: Tokens) -> list[SampleRequest]:
        options = {"include_prompt_logprobs": True}
        return [SampleRequest((*prompt, *choice), options) for choice in self.choices]

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values = []
        for choice, answer in zip(self.choices, answers, strict=True):
            own = dict(enumerate(prompt_logprobs(answer, len(prompt) + len(choice))))
            values.append(sum(_require(own, len(prompt) + p, p) for p in range(len(choice))))
        return RowScore(tuple(values))


Method = TargetLogprobs | TopLogprobs | EachChoice
"""Builds the requests for one row, and reads their answers, which raises NotGiven or RowError."""


def methods(choices: Rows) -> list[Method]:
    """Return the methods that the SDK supports, the best first."""
    plan = choice_plan(choices)
    found: list[Method] = [TargetLogprobs(plan)] if has_current_sdk() else []
    return [*found, TopLogprobs(plan), EachChoice(plan.choices)]


def prompt_logprobs(answer: Any, length: int) -> Sequence[float | None]:
    """Return the log-probabilities (nats) of a prompt of `length` tokens by place; the first is None.

    Some servers (SkyRL 0.3) omit the first and begin with the second. Raises NotGiven.
    """
    values: Sequence[float | None] | None = answer.prompt_logprobs
    if values is None:
        raise NotGiven
    begins_with_second = len(values) == length - 1 and values[:1] != [None]
    return [None, *values] if begins_with_second else values


def bound(listed: Sequence[float]) -> float:
    """Return the largest log-probability (nats) of a token that is not among the most likely, `listed`.

    It is at most the smallest of them, and at most what they leave over.
    """
    left = 1.0 - math.fsum(math.exp(value) for value in listed)
    # Rounding may leave a negative rest.
    return min(min(listed), math.log(max(left, 1e-7)))


def _require(values: Mapping[Any, float | None], at: Any, place: int) -> float:
    value = values.get(at)
    if value is None or (not math.isfinite(value) and value != -math.inf):
        raise RowError(f"the answer is missing place {place} after the prompt")
    return float(value)
