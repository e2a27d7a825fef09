"""The installed SDK: the features of its version, and its errors as errors of this project."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import os
import re
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from core.engines.tinker.connection import KEY
from core.errors import ConfigError, SessionLost, StageError, UnderstudyError

GONE = (404, 410)
_RETRYABLE = (408, 409, 425, 429)
_WRAPPED = re.compile(r"Request failed: (?P<why>.*?) for self\.request_id=.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sdk:
    """The SDK and the features by which its versions differ."""

    module: Any
    version: str
    targets: bool
    """Samples can name the tokens to score at each place of the prompt."""
    own_rest: bool
    """Requests without a session have a client of their own."""
    external: bool
    """Adapters are downloaded file by file, not as one archive."""


@functools.cache
def load() -> Sdk:
    """Import the SDK, its telemetry off unless the user enabled it. Raises ConfigError without it."""
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    try:
        tinker = importlib.import_module("tinker")
    except ImportError as error:
        raise ConfigError(
            f"the tinker engine needs the tinker SDK, which is installed with understudy-distill ({error}); "
            "reinstall understudy-distill"
        ) from None
    rest = getattr(tinker, "RestClient", None)
    return Sdk(
        module=tinker,
        version=importlib.metadata.version("tinker"),
        targets=_has_parameter(tinker.SamplingClient.sample, "target_prompt_logprobs"),
        own_rest=rest is not None and _has_parameter(rest.__init__, "base_url"),
        external=hasattr(tinker.TrainingClient, "save_weights_external")
        and hasattr(rest, "get_external_weights_urls"),
    )


def _has_parameter(call: Any, name: str) -> bool:
    return name in inspect.signature(call).parameters


def translated(error: BaseException, doing: str, server: str) -> UnderstudyError:
    """Return this project's error for an error of the SDK while `doing` something.

    Every loss of a session is a SessionLost: a model that a failed request poisoned, a lost connection, an
    expired session, a restarted server.
    """
    if isinstance(error, UnderstudyError):
        return error
    tinker, why = load().module, reason(error)
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
        return SessionLost(f"{server} no longer has {doing}: {why or 'it was cancelled'}")
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
    kind = load().module.APIStatusError
    return next((int(each.status_code) for each in _causes(error) if isinstance(each, kind)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__
