"""The SDK's clients of one server, opened on first use and replaced after a lost session; their requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from core.engines.base import Usage
from core.engines.sampling import GenerateParams
from core.engines.tinker import sdk
from core.engines.tinker.connection import Connection
from core.engines.tinker.waiting import Watch, plain, settle
from core.errors import CheckpointGone, ConfigError, SessionLost, StageError, UnderstudyError

log = logging.getLogger(__name__)

Tokens = tuple[int, ...]
PREFILL = GenerateParams(max_tokens=1)
"""A prompt is computed by sampling one token after it."""


@dataclass(frozen=True, slots=True)
class Client:
    """A training or sampling client, and the service client whose session it belongs to."""

    sdk: Any
    owner: Any
    service: Service

    def failed(self, error: BaseException, doing: str) -> UnderstudyError:
        """Return this project's error for one of the SDK's."""
        return self.service.failed(error, doing, self.owner)


class Service:
    """Clients for any thread; a training client stays with the thread that opened it."""

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self.connection, self.watch = connection, watch
        self._lock = threading.Lock()
        self._client: Any = None
        self._lost: list[Any] = []
        self._rest: Any = None

    def client(self) -> Any:
        """Return the service client of a session that is not known to be lost. Raises PassingError."""
        with self._lock:
            if self._client is None:
                loaded = sdk.load()
                self.connection.probe()
                self._client = loaded.module.ServiceClient(
                    base_url=self.connection.server, api_key=self.connection.require_key()
                )
            return self._client

    def open(self, call: Callable[[Any], Any], doing: str) -> Client:
        """Wait for the client that `call` requests of the service client. Raises UnderstudyError."""
        owner = self.client()
        try:
            return Client(self.result(call(owner), doing), owner, self)
        except Exception as error:
            raise self.failed(error, doing, owner) from error

    def query(self, call: Callable[[Any], Any], doing: str) -> Any:
        """Wait for what `call` requests of the client without a session.

        Raises CheckpointGone if the server does not have what the request is about, else UnderstudyError.
        """
        server, rest = self.connection.server, self._rest
        try:
            if rest is None:
                loaded = sdk.load()
                self.connection.probe()
                key = self.connection.require_key()
                if loaded.own_rest:
                    rest = loaded.module.RestClient(base_url=server, api_key=key)
                else:
                    rest = self.client().create_rest_client()
                self._rest = rest
            return self.result(call(rest), doing)
        except Exception as error:
            if sdk.status_of(error) in sdk.GONE:
                raise CheckpointGone(f"{server} does not have (any more) what {doing} is about") from error
            raise sdk.translated(error, doing, server) from error

    def failed(self, error: BaseException, doing: str, client: Any) -> UnderstudyError:
        """Return this project's error for one of the SDK's; a client whose session is lost is not reused."""
        found = sdk.translated(error, doing, self.connection.server)
        if isinstance(found, SessionLost):
            with self._lock:
                if self._client is client:
                    self._client = None
                    self._lost.append(client)
        return found

    def close(self) -> None:
        """Finish the session on the server, and close the clients of lost ones, which would poll forever.

        They are not closed earlier, since other threads may still wait for their requests.
        """
        with self._lock:
            clients = [(client, "errored") for client in self._lost]
            if self._client is not None:
                clients.append((self._client, "success"))
            self._client, self._lost = None, []
        ends = {plain(c.close(how)): how for c, how in clients if hasattr(c, "close")}
        waiting = set(ends)
        while waiting:
            waiting -= self.watch.first(waiting, "the end of the session")
        for finished, how in ends.items():
            error = finished.exception()
            if how == "success" and error is not None:
                log.info("the session on %s did not end well: %s", self.connection.server, error)
        self.watch.queue.close()

    def result(self, value: Any, doing: str) -> Any:
        """Wait for the value of an SDK call; older versions return some values at once."""
        waits = hasattr(value, "future") or hasattr(value, "add_done_callback")
        return self.watch.result(plain(value), doing) if waits else value


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
