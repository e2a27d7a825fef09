"""Sends many requests for samples, a bounded number at a time, and tells failed ones from lost sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from core.engines.base import GenerateParams, Usage
from core.engines.tinker import failures, sdk
from core.engines.tinker.questions import Question
from core.engines.tinker.service import Client
from core.engines.tinker.usage import Meter
from core.engines.tinker.waiting import plain, settle
from core.errors import ConfigError, SessionLost


@dataclass(frozen=True, slots=True)
class RowError:
    """A request that failed by itself."""

    why: str


class Asker:
    """Asks one sampling client."""

    def __init__(self, client: Client, meter: Meter, outstanding: int) -> None:
        self._client, self._meter, self._outstanding = client, meter, outstanding
        self._watch = client.service.watch

    def ask(
        self,
        questions: Sequence[tuple[Question, GenerateParams]],
        what: str,
        told: Callable[[int], None],
    ) -> list[Any]:
        """The answer to each, or its RowError, in order; `told` is given how many are there.

        Raises SessionLost, ConfigError; then nothing stays on its way.
        """
        answers: list[Any] = [None] * len(questions)
        waiting: dict[Future[Any], int] = {}
        sent = 0
        try:
            while sent < len(questions) or waiting:
                while sent < len(questions) and len(waiting) < self._outstanding:
                    waiting[self._send(*questions[sent])] = sent
                    sent += 1
                for future in self._watch.first(
                    waiting, f"{what}, {sent - len(waiting)} of {len(questions)}"
                ):
                    answers[waiting.pop(future)] = self._settled(future, what)
                    told(sent - len(waiting))
        finally:
            settle(waiting)
        return answers

    def _send(self, question: Question, params: GenerateParams) -> Future[Any]:
        types = sdk.load().module.types
        self._meter.add(Usage(prefilled=len(question.prompt), requests=1))
        return plain(
            self._client.sdk.sample(
                prompt=types.ModelInput.from_ints(list(question.prompt)),
                num_samples=question.samples,
                sampling_params=types.SamplingParams(
                    max_tokens=params.max_tokens,
                    seed=params.seed,
                    stop=list(params.stop_tokens),
                    temperature=params.temperature,
                    top_k=-1,
                    top_p=1.0,
                ),
                **question.options,
            )
        )

    def _settled(self, future: Future[Any], what: str) -> Any:
        try:
            answer = future.result()
        except Exception as error:
            return self._failed(error, what)
        self._meter.add(Usage(sampled=sum(len(sequence.tokens) for sequence in answer.sequences)))
        return answer

    def _failed(self, error: Exception, what: str) -> RowError:
        """One that failed alone is the row's; what ends all is raised."""
        if failures.failed_alone(error):
            return RowError(failures.reason(error))
        found = self._client.failed(error, what)
        if isinstance(found, SessionLost | ConfigError):
            raise found from error
        return RowError(str(found))
