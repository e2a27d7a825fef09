"""The installed SDK: the features of its version, and its errors as errors of this project."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import re
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

from core.errors import ConfigError, SessionLost, StageError, UnderstudyError

KEY = "TINKER_API_KEY"
GONE = (404, 410)
_RETRYABLE = (408, 409, 425, 429)
_WRAPPED = re.compile(r"Request failed: (?P<why>.*?) for self\.request_id=.*", re.DOTALL)


@functools.cache
def load() -> Any:
    """Import the SDK, its telemetry off unless the user enabled it. Raises ConfigError without it."""
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    try:
        return importlib.import_module("tinker")
    except ImportError as error:
        raise ConfigError(
            f"the tinker engine needs the tinker SDK, which is installed with understudy-distill ({error}); "
            "reinstall understudy-distill"
        ) from None


def version() -> str:
    """Return the installed SDK's version."""
    return importlib.metadata.version("tinker")


def is_current() -> bool:
    """Return whether the SDK is 0.38 or later, not 0.24, the last that SkyRL 0.3 understands.

    It can name the tokens to score, send requests without a session, and download adapters file by file.
    """
    return hasattr(load().TrainingClient, "save_weights_external")


def translated(error: BaseException, doing: str, server: str) -> UnderstudyError:
    """Return this project's error for an error of the SDK while `doing` something.

    Every lost connection, lost or expired session and poisoned model is a SessionLost.
    """
    if isinstance(error, UnderstudyError):
        return error
    tinker, why = load(), reason(error)
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
    if status in GONE:
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


def reason(error: BaseException) -> str:
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
    kind = load().APIStatusError
    return next((int(each.status_code) for each in _causes(error) if isinstance(each, kind)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__
