"""What lies on the server: listing, removing, and how long it lives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from core.engines.base import RemoteCheckpoint, RemoteKind, SamplerRef, StateRef
from core.engines.tinker.paths import name_of, run_of
from core.engines.tinker.service import Service
from core.errors import CheckpointGone, StageError

_PAGE = 100
_KINDS: dict[str, RemoteKind] = {"training": "state", "sampler": "sampler", "external": "adapter"}


def listed(service: Service) -> list[RemoteCheckpoint]:
    """All checkpoints of this key's owner, the latest first."""
    found = (_listed(each) for each in _all(service))
    return sorted(found, key=lambda each: (each.created, each.location), reverse=True)


def find(service: Service, ref: StateRef | SamplerRef) -> RemoteCheckpoint | None:
    """What lies at a path, None where the server does not have it (any more)."""
    try:
        found = _of_run(service, run_of(ref.location))
    except CheckpointGone:
        return None
    return next((each for each in _living(found) if each.location == ref.location), None)


def require(service: Service, ref: StateRef | SamplerRef) -> RemoteCheckpoint:
    """As `find`. Raises CheckpointGone."""
    found = find(service, ref)
    if found is None:
        raise CheckpointGone(f"{service.connection.server} no longer has {ref.location}")
    return found


def remove(service: Service, location: str) -> None:
    """Delete it. Raises CheckpointGone where it is not there, StageError where the server cannot."""
    _change(service, location, "removing", lambda rest: rest.delete_checkpoint_from_tinker_path(location))


def set_ttl(service: Service, location: str, ttl_s: int | None) -> None:
    """Let it live so many seconds from now (3600 or more), or, with None, for ever. As `remove`."""
    _change(
        service,
        location,
        "the lifetime of",
        lambda rest: rest.set_checkpoint_ttl_from_tinker_path(location, ttl_s),
    )


def _change(service: Service, location: str, doing: str, call: Callable[[Any], Any]) -> None:
    """A server that has no such request answers as one that has no such checkpoint."""
    try:
        service.look(call, f"{doing} {location}")
    except CheckpointGone as error:
        if not any(each.tinker_path == location for each in _of_run(service, run_of(location))):
            raise
        server = service.connection.server
        raise StageError(f"{server} does not know how to change {location} ({doing} it); it stays") from error


def _all(service: Service) -> Iterator[Any]:
    """Some servers (SkyRL 0.3) list checkpoints by run alone."""
    try:
        yield from _pages(
            service, lambda rest, at: rest.list_user_checkpoints(_PAGE, at), lambda page: page.checkpoints
        )
    except CheckpointGone:
        runs = _pages(
            service, lambda rest, at: rest.list_training_runs(_PAGE, at), lambda page: page.training_runs
        )
        for run in runs:
            yield from _of_run(service, run.training_run_id)


def _of_run(service: Service, run: str) -> Sequence[Any]:
    found = service.look(lambda rest: rest.list_checkpoints(run), "the run's checkpoints")
    checkpoints: Sequence[Any] = found.checkpoints
    return checkpoints


def _pages(
    service: Service, ask: Callable[[Any, int], Any], rows: Callable[[Any], Sequence[Any]]
) -> Iterator[Any]:
    offset = 0
    while True:
        page = service.look(lambda rest: ask(rest, offset), "the list of checkpoints")  # noqa: B023
        yield from rows(page)
        offset += len(rows(page))
        if not rows(page) or page.cursor is None or offset >= page.cursor.total_count:
            return


def _living(found: Iterable[Any]) -> Iterator[RemoteCheckpoint]:
    now = datetime.now(UTC)
    for each in map(_listed, found):
        if each.expires is None or each.expires > now:
            yield each


def _listed(found: Any) -> RemoteCheckpoint:
    expires = getattr(found, "expires_at", None)
    return RemoteCheckpoint(
        location=found.tinker_path,
        kind=_KINDS[found.checkpoint_type],
        step=None if (name := name_of(found.tinker_path)) is None else name.step,
        bytes=getattr(found, "size_bytes", None),
        created=_aware(found.time),
        expires=None if expires is None else _aware(expires),
    )


def _aware(time: datetime) -> datetime:
    """Servers that name no zone mean UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)
