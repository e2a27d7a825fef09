"""A Tinker server: its address and key, the SDK's clients of it, its errors, and waits for it.

Nothing here ends a wait: the SDK has its own timeouts and retries.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import logging
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from core.errors import CheckpointGone, ConfigError, PassingError, SessionLost, StageError, UnderstudyError

log = logging.getLogger(__name__)

HOSTED = "https://tinker.thinkingmachines.dev/services/tinker-prod"
SERVER, KEY = "TINKER_BASE_URL", "TINKER_API_KEY"
_KEY_PREFIXES = ("tml-", "eyJ")
_PORTS = {"http": 80, "https": 443}
# The SDK's loggers of the queue's state, which repeat it at most every minute.
_QUEUE_LOGGERS = ("tinker.lib.queue_state_logger", "tinker.lib.public_interfaces.sampling_client")
_QUEUE_VALID_S = 90.0
LOG_EVERY_S = 60.0
# HTTP statuses of what no longer exists, and those after which a new session may succeed.
_GONE, _RETRYABLE = (404, 410), (408, 409, 425, 429)
_WRAPPED = re.compile(r"Request failed: (?P<why>.*?) for self\.request_id=.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's normalized address, and its key; None reads the key from TINKER_API_KEY."""

    server: str
    key: str | None = field(default=None, repr=False)

    def require_key(self) -> str:
        """Return the key. Raises ConfigError if it is missing or malformed."""
        if self.key is not None:
            return self.key
        key = os.environ.get(KEY, "").strip()
        if not key:
            raise ConfigError(f"student.engine is tinker, but {KEY} is not set; set it to your key")
        if not key.startswith(_KEY_PREFIXES):
            raise ConfigError(
                f"{KEY} is not a key: keys begin with {' or '.join(_KEY_PREFIXES)}; copy it again from the "
                "console"
            )
        return key

    def probe(self, timeout_s: float = 10.0) -> None:
        """Send one health request, whose answer may be anything. Raises PassingError.

        Without it the SDK retries an unreachable server for more than five minutes.
        """
        try:
            # `server_address` accepts only http and https.
            urllib.request.urlopen(f"{self.server}/api/v1/healthz", timeout=timeout_s).close()  # nosec B310
        except urllib.error.HTTPError as error:
            error.close()
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise PassingError(
                f"the Tinker server {self.server} cannot be reached ({reason}); check "
                f"student.engine.base_url or {SERVER}, and the network"
            ) from error


def server_address(server: str | None = None) -> str:
    """Return the normalized address of `server`, else TINKER_BASE_URL, else of the hosted service.

    Sends no request. Raises ConfigError.
    """
    address = server or os.environ.get(SERVER) or HOSTED
    source = "student.engine.base_url" if server else SERVER
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{source} is {address!r}, which is not a server's address: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError(
            f"{source} is {address!r}, which is not a server's address; write https://host or "
            f"http://host:port, with a path if the server has one"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


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

    def __init__(self, connection: Connection) -> None:
        self.connection, self.queue, self.tick_s = connection, Queue(), 1.0
        self._lock, self._local = threading.Lock(), threading.local()
        self._client: Any = None
        self._lost: list[Any] = []
        self._rest: Any = None

    def client(self) -> Any:
        """Return the service client of a session that is not known to be lost. Raises PassingError."""
        with self._lock:
            if self._client is None:
                tinker = load_sdk()
                self.connection.probe()
                self._client = tinker.ServiceClient(
                    base_url=self.connection.server, api_key=self.connection.require_key()
                )
            return self._client

    def open(self, call: Callable[[Any], Any], doing: str) -> Client:
        """Wait for the client that `call` requests of the service client. Raises UnderstudyError."""
        owner = self.client()
        try:
            return Client(self._result(call(owner), doing), owner, self)
        except Exception as error:
            raise self.failed(error, doing, owner) from error

    def query(self, call: Callable[[Any], Any], doing: str) -> Any:
        """Wait for what `call` requests of the client without a session.

        Raises CheckpointGone if the server does not have what the request is about, else UnderstudyError.
        """
        server = self.connection.server
        try:
            if self._rest is None:
                tinker = load_sdk()
                self.connection.probe()
                key = self.connection.require_key()
                if has_current_sdk():
                    self._rest = tinker.RestClient(base_url=server, api_key=key)
                else:
                    self._rest = self.client().create_rest_client()
            return self._result(call(self._rest), doing)
        except Exception as error:
            if status_of(error) in _GONE:
                raise CheckpointGone(f"{server} does not have (any more) what {doing} is about") from error
            raise translated(error, doing, server) from error

    def failed(self, error: BaseException, doing: str, client: Any) -> UnderstudyError:
        """Return this project's error for one of the SDK's; a client whose session is lost is not reused."""
        found = translated(error, doing, self.connection.server)
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
        ends = [(plain(c.close(how)), how) for c, how in clients if hasattr(c, "close")]
        for future, how in ends:
            self.first([future], "the end of the session")
            if how == "success" and (error := future.exception()) is not None:
                log.info("the session on %s did not end well: %s", self.connection.server, error)
        self.queue.close()

    @contextmanager
    def reporting(self, report: Callable[[str], None]) -> Iterator[None]:
        """Within the context, report this thread's waits, every `tick_s`."""
        before = getattr(self._local, "report", None)
        self._local.report = report
        try:
            yield
        finally:
            self._local.report = before

    def result(self, future: Future[Any], what: str) -> Any:
        """Wait for a future; return its result or raise its error."""
        self.first([future], what)
        return future.result()

    def first(self, futures: Collection[Future[Any]], what: str) -> set[Future[Any]]:
        """Wait until at least one future is done; return those that are. Logs long waits each minute."""
        since, next_log, waited = time.monotonic(), LOG_EVERY_S, False
        report: Callable[[str], None] | None = getattr(self._local, "report", None)
        while not (done := wait(futures, self.tick_s, return_when=FIRST_COMPLETED).done):
            waited, seconds = True, time.monotonic() - since
            queue = f", queue: {self.queue.state}" if self.queue.state else ""
            message = f"waiting for {what} for {seconds:.0f} s{queue}"
            if seconds >= next_log:
                next_log = seconds + LOG_EVERY_S
                log.info("%s", message)
            if report is not None:
                report(message)
        # A result means that the queue moves again, which older SDKs do not report.
        if waited:
            self.queue.update(None)
        return done

    def _result(self, value: Any, doing: str) -> Any:
        """Wait for the value of an SDK call; older versions return some values at once."""
        waits = hasattr(value, "future") or hasattr(value, "add_done_callback")
        return self.result(plain(value), doing) if waits else value


class Queue(logging.Handler):
    """The last state of the server's queue, from the SDK's observer of training or from its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._state: str | None = None
        self._until = 0.0
        for name in _QUEUE_LOGGERS:
            logging.getLogger(name).addHandler(self)

    @property
    def state(self) -> str | None:
        """None if it works, or nothing was reported for a while."""
        return self._state if time.monotonic() < self._until else None

    def update(self, state: str | None) -> None:
        self._state, self._until = state, time.monotonic() + _QUEUE_VALID_S

    def emit(self, record: logging.LogRecord) -> None:
        self.update(record.getMessage())

    def on_queue_state_change(self, queue_state: Any, queue_state_reason: str | None) -> None:
        """Implement the SDK's observer."""
        state = str(getattr(queue_state, "value", queue_state))
        parts = [part for part in (state.replace("_", " "), queue_state_reason) if part]
        self.update(None if state == "active" else ": ".join(parts))

    def observe(self, client: Any) -> None:
        """Observe a training client's queue too: its own observer is silent for 15 minutes."""
        own = getattr(client, "_queue_state_logger", None)
        if own is None:
            return

        def on_queue_state_change(queue_state: Any, queue_state_reason: str | None) -> None:
            own.on_queue_state_change(queue_state, queue_state_reason)
            self.on_queue_state_change(queue_state, queue_state_reason)

        client._queue_state_logger = SimpleNamespace(on_queue_state_change=on_queue_state_change)

    def close(self) -> None:
        for name in _QUEUE_LOGGERS:
            logging.getLogger(name).removeHandler(self)
        super().close()


def plain(future: Any) -> Future[Any]:
    """Return the concurrent.futures.Future of an SDK call."""
    inner: Future[Any] = future.future() if hasattr(future, "future") else future
    return inner


def settle(futures: Iterable[Future[Any]]) -> None:
    """Cancel futures, and read the results of those that cannot be canceled."""
    for future in futures:
        future.cancel()
        if not future.cancelled():
            future.exception()


@functools.cache
def load_sdk() -> Any:
    """Import the SDK, its telemetry off unless the user enabled it. Raises ConfigError without it."""
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    try:
        return importlib.import_module("tinker")
    except ImportError as error:
        raise ConfigError(
            f"the tinker engine needs the tinker SDK, which is installed with understudy-distill ({error}); "
            "reinstall understudy-distill"
        ) from None


def sdk_version() -> str:
    """Return the installed SDK's version."""
    return importlib.metadata.version("tinker")


def has_current_sdk() -> bool:
    """Return whether the SDK is 0.38 or later, not 0.24, the last that SkyRL 0.3 understands.

    It can name the tokens to score, send requests without a session, and download adapters file by file.
    """
    return hasattr(load_sdk().TrainingClient, "save_weights_external")


def translated(error: BaseException, doing: str, server: str) -> UnderstudyError:
    """Return this project's error for an error of the SDK while `doing` something.

    Every lost connection, lost or expired session and poisoned model is a SessionLost.
    """
    if isinstance(error, UnderstudyError):
        return error
    tinker, why = load_sdk(), server_reason(error)
    if isinstance(error, tinker.RequestFailedError):
        category = getattr(getattr(error, "category", None), "value", "unknown")
        if category == "user":
            return StageError(f"the server refused {doing}: {why}")
        return SessionLost(f"the server failed at {doing} ({category}): {why}")
    status = status_of(error)
    if status in (401, 403):
        return ConfigError(
            f"{server} does not accept the key in {KEY} (status {status}: {why}); check the key"
        )
    if status == 402:
        return StageError(f"{server} rejected {doing}: insufficient credit (HTTP 402: {why}). Check billing.")
    if status in _GONE:
        return SessionLost(f"{server} no longer has what {doing} needs (status {status}: {why})")
    if status is not None and (status in _RETRYABLE or status >= 500):
        return SessionLost(f"{server} did not complete {doing} (status {status}: {why})")
    if status is not None:
        return StageError(f"the server refused {doing} (status {status}): {why}")
    if isinstance(error, tinker.APIConnectionError):
        return SessionLost(f"the connection to {server} was lost in {doing}: {error}")
    # An expired promise has no public class; a poisoned client raises a RuntimeError.
    if isinstance(error, CancelledError) or type(error).__name__ == "RetryableException":
        return SessionLost(f"{server} no longer has {doing}: {why or 'it was canceled'}")
    if isinstance(error, RuntimeError) and "poisoned" in str(error):
        return SessionLost(f"{doing} came after a failed request: {error}")
    return StageError(f"{doing} on {server} failed: {type(error).__name__}: {error}")


def server_reason(error: BaseException) -> str:
    """Return the server's message, without the SDK's."""
    found = _WRAPPED.fullmatch(str(error))
    if found is not None:
        return found["why"]
    for each in _causes(error):
        body = getattr(each, "body", None)
        if isinstance(body, dict) and body.get("detail"):
            return str(body["detail"])
    return str(error)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status behind an error, if there is one."""
    kind = load_sdk().APIStatusError
    return next((int(each.status_code) for each in _causes(error) if isinstance(each, kind)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__
