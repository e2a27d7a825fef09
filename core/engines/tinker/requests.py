"""Send sampling requests of one client, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from core.engines.base import Usage
from core.engines.sampling import GenerateParams
from core.engines.tinker import sdk
from core.engines.tinker.service import Client
from core.engines.tinker.waiting import plain, settle
from core.errors import ConfigError, SessionLost, StageError

Tokens = tuple[int, ...]
PREFILL = GenerateParams(max_tokens=1)
"""A prompt is computed by sampling one token after it."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A prompt to compute and its options, and how many continuations to sample with `params`."""

    prompt: Tokens
    options: dict[str, Any]
    params: GenerateParams = PREFILL
    samples: int = 1


@dataclass(frozen=True, slots=True)
class RowError:
    """A request that failed alone; the others may succeed."""

    why: str


class RequestPool:
    """Sends requests of one sampling client, at most `outstanding` of them in flight; counts their tokens."""

    def __init__(self, client: Client, outstanding: int) -> None:
        self.client, self._outstanding = client, outstanding
        self.usage = Usage()

    def send_all(
        self, requests: Sequence[SampleRequest], what: str, report: Callable[[int], None]
    ) -> list[Any]:
        """Return the answer to each, or its RowError, in order; `report` receives the number of answers.

        Raises SessionLost, ConfigError; then no request is left in flight.
        """
        answers: list[Any] = [None] * len(requests)
        waiting: dict[Future[Any], int] = {}
        sent, watch = 0, self.client.service.watch
        try:
            while sent < len(requests) or waiting:
                while sent < len(requests) and len(waiting) < self._outstanding:
                    waiting[self._send(requests[sent])] = sent
                    sent += 1
                for future in watch.first(waiting, f"{what}, {sent - len(waiting)} of {len(requests)}"):
                    answers[waiting.pop(future)] = self._answer(future, what)
                    report(sent - len(waiting))
        finally:
            settle(waiting)
        return answers

    def _send(self, request: SampleRequest) -> Future[Any]:
        types, params = sdk.load().module.types, request.params
        self.usage += Usage(prefilled=len(request.prompt), requests=1)
        return plain(
            self.client.sdk.sample(
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
            if isinstance(error, sdk.load().module.RequestFailedError):
                return RowError(sdk.reason(error))
            found = self.client.failed(error, what)
            if isinstance(found, SessionLost | ConfigError):
                raise found from error
            return RowError(str(found))
        self.usage += Usage(sampled=sum(len(sequence.tokens) for sequence in answer.sequences))
        return answer


def require_answers(rows: int, errors: dict[int, str], what: str) -> None:
    """Raise StageError if every row failed."""
    if rows and len(errors) == rows:
        raise StageError(f"none of {rows} requests for {what} was answered; the first error: {errors[0]}")
