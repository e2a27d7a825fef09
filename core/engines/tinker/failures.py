"""What the SDK raises, as this project's errors: lost for now, refused for good, or not let in.

Every way of losing a session comes out as SessionLost: a model spoilt by a failed request, a
connection, an expired session, a server that began anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import CancelledError

from core.engines.tinker import sdk
from core.engines.tinker.connection import KEY
from core.errors import ConfigError, SessionLost, StageError, UnderstudyError

_NOT_LET_IN = (401, 403)
_GONE = (404, 410)
_NO_MONEY = 402
_PASSING = (408, 409, 425, 429)
_WRAPPING = re.compile(r"Request failed: (?P<why>.*?) for self\.request_id=.*", re.DOTALL)


def translated(error: BaseException, doing: str, server: str) -> UnderstudyError:
    """The error of this project for what went wrong while `doing` something."""
    if isinstance(error, UnderstudyError):
        return error
    tinker = sdk.load().module
    if isinstance(error, tinker.RequestFailedError):
        return _of_request(error, doing)
    status = status_of(error)
    if status is not None:
        return _of_status(status, reason(error), doing, server)
    if isinstance(error, tinker.APIConnectionError):
        return SessionLost(f"the connection to {server} was lost in {doing}: {error}")
    # An expired promise has no public class; a poisoned client says so in a RuntimeError.
    if isinstance(error, CancelledError) or type(error).__name__ == "RetryableException":
        return SessionLost(f"{server} no longer knows of {doing}: {reason(error) or 'it was cancelled'}")
    if isinstance(error, RuntimeError) and "poisoned" in str(error):
        return SessionLost(f"{doing} came after a failed request: {error}")
    return StageError(f"{doing} on {server} failed: {type(error).__name__}: {error}")


def failed_alone(error: BaseException) -> bool:
    """Whether one request was answered by its failure, so that others may do well."""
    return isinstance(error, sdk.load().module.RequestFailedError)


def reason(error: BaseException) -> str:
    """The server's own words, without the SDK's."""
    found = _WRAPPING.fullmatch(str(error))
    if found is not None:
        return found["why"]
    for each in _chain(error):
        body = getattr(each, "body", None)
        if isinstance(body, dict) and body.get("detail"):
            return str(body["detail"])
    return str(error)


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, if there is one."""
    kind = sdk.load().module.APIStatusError
    return next((int(each.status_code) for each in _chain(error) if isinstance(each, kind)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__


def _of_request(error: BaseException, doing: str) -> UnderstudyError:
    category = getattr(getattr(error, "category", None), "value", "unknown")
    if category == "user":
        return StageError(f"the server refused {doing}: {reason(error)}")
    return SessionLost(f"the server failed at {doing} ({category}): {reason(error)}")


def _of_status(status: int, why: str, doing: str, server: str) -> UnderstudyError:
    if status in _NOT_LET_IN:
        return ConfigError(f"{server} does not take the key in {KEY} (status {status}: {why}); check the key")
    if status == _NO_MONEY:
        return StageError(
            f"{server} refused {doing} for want of money (status 402: {why}); see to the billing"
        )
    if status in _GONE:
        return SessionLost(f"{server} no longer knows what {doing} needs (status {status}: {why})")
    if status in _PASSING or status >= 500:
        return SessionLost(f"{server} did not get to {doing} (status {status}: {why})")
    return StageError(f"the server refused {doing} (status {status}): {why}")
