"""Checkpoints on a server: their names, the record of a save, and listing, removing and keeping them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from operator import methodcaller
from pathlib import Path
from typing import Any

from core import jsonio
from core.engines.base import (
    Checkpoint,
    EngineIdentity,
    LoraSpec,
    RemoteCheckpoint,
    RemoteKind,
    SamplerRef,
    SaveLabel,
    StateRef,
)
from core.engines.tinker.service import Service
from core.errors import CheckpointGone, ModelError, StageError
from core.jsonio import InvalidFile, Record

FILE = "tinker.json"
_PAGE = 100
_KINDS: dict[str, RemoteKind] = {"training": "state", "sampler": "sampler", "external": "adapter"}
# Every server accepts letters, digits, - and _.
_NAME = re.compile(r"understudy-[A-Za-z0-9]+-step([0-9]+)-[A-Za-z0-9]+-[0-9a-f]+")


def save_name(label: SaveLabel | None, step: int) -> str:
    """Return a new name for one save, shared by its state and its sampler's weights.

    Key, step and writer keep two saves from colliding; the random end differs between attempts, so that a
    save whose answer was lost does not block a later one.
    """
    parts = (label.key, label.writer) if label else ("", "")
    key, writer = (re.sub(r"[^A-Za-z0-9]", "", part)[:16] or "none" for part in parts)
    return f"understudy-{key}-step{step:06d}-{writer}-{secrets.token_hex(4)}"


def renewed(location: str) -> str:
    """Return a new name for another save of what is at a path."""
    if saved_step(location) is None:  # the server changed the name
        return save_name(None, 0)
    return f"{location.rsplit('/', 1)[-1].rpartition('-')[0]}-{secrets.token_hex(4)}"


def saved_step(location: str) -> int | None:
    """Return the step in the name at the end of a path; None if `save_name` did not create it."""
    found = _NAME.fullmatch(location.rsplit("/", 1)[-1])
    return None if found is None else int(found[1])


def require_path(ref: StateRef | SamplerRef) -> str:
    """Return the path of a state, or of a sampler's weights. Raises ModelError for any other location."""
    sampler = isinstance(ref, SamplerRef)
    kind, what = ("sampler_weights", "sampler's weights") if sampler else ("weights", "training state")
    if not re.fullmatch(rf"tinker://[^/]+/{kind}/[^/]+", ref.location):
        raise ModelError(
            f"{ref.location} is not the path of a {what}; such a path reads tinker://<run>/{kind}/<name>"
        )
    return ref.location


def run_of(location: str) -> str:
    """Return the training run on the server that a path belongs to."""
    return location.removeprefix("tinker://").split("/")[0]


def sampler_ref(path: str) -> SamplerRef:
    """Return the reference to a path from a server; some (SkyRL 0.3) omit the path's kind."""
    run, _, name = path.removeprefix("tinker://").partition("/")
    return SamplerRef(path if "/" in name else f"tinker://{run}/sampler_weights/{name}")


def checkpoint_at(identity: EngineIdentity, state: StateRef) -> Checkpoint | None:
    """Return the checkpoint that a session saved at a state; None for states of other programs."""
    step = saved_step(state.location)
    if step is None:
        return None
    sampler = SamplerRef(state.location.replace("/weights/", "/sampler_weights/"))
    return Checkpoint(identity, step, digest_of(str(identity.server), state), state, sampler)


def digest_of(server: str, state: StateRef) -> str:
    """Return the digest of weights that stay on a server: of the only place where they are."""
    return jsonio.digest([server, state.location])


class Saved(Record):
    """A save on a server, as tinker.json records it; `run` is the training run there."""

    server: str
    model: str
    run: str
    name: str
    step: int
    digest: str
    state: str
    sampler: str
    ttl_seconds: int | None
    """Time to live that was requested; None: forever."""
    lora: LoraSpec
    sdk: str

    @classmethod
    def of(cls, folder: Path) -> Saved:
        """Read the record in a folder. Raises ModelError if it is missing or cannot be read."""
        path = folder / FILE
        try:
            return cls.read(path)
        except FileNotFoundError:
            raise ModelError(
                f"no checkpoint of a Tinker server in {folder}: {FILE} is missing; name a folder that a "
                f"run saved"
            ) from None
        except (InvalidFile, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({error}); restore it or train again") from error

    def refs(self) -> tuple[StateRef, SamplerRef]:
        """Return both paths. Raises ModelError for a path of another kind."""
        refs = StateRef(self.state), SamplerRef(self.sampler)
        for ref in refs:
            require_path(ref)
        return refs


def listed(service: Service) -> list[RemoteCheckpoint]:
    """Return all checkpoints of the key's owner, the latest first."""

    def every(request: str, field: str) -> list[Any]:
        rows = list[Any]()
        while True:
            page = service.query(methodcaller(request, _PAGE, len(rows)), "the list of checkpoints")
            rows += getattr(page, field)
            if not getattr(page, field) or page.cursor is None or len(rows) >= page.cursor.total_count:
                return rows

    try:
        own = every("list_user_checkpoints", "checkpoints")
    except CheckpointGone:  # some servers (SkyRL 0.3) list checkpoints only by run
        runs = every("list_training_runs", "training_runs")
        own = [each for run in runs for each in _of_run(service, run.training_run_id)]
    return sorted(map(_listed, own), key=lambda each: (each.created, each.location), reverse=True)


def find(service: Service, ref: StateRef | SamplerRef) -> RemoteCheckpoint | None:
    """Return the checkpoint at a path; None if the server does not have it (any more)."""
    try:
        found = map(_listed, _of_run(service, run_of(ref.location)))
    except CheckpointGone:
        return None
    now = datetime.now(UTC)
    living = (each for each in found if each.expires is None or each.expires > now)
    return next((each for each in living if each.location == ref.location), None)


def require(service: Service, ref: StateRef | SamplerRef) -> RemoteCheckpoint:
    """Return the checkpoint at a path. Raises CheckpointGone."""
    found = find(service, ref)
    if found is None:
        raise CheckpointGone(f"{service.connection.server} no longer has {ref.location}")
    return found


def remove(service: Service, location: str) -> None:
    """Delete a checkpoint. Raises CheckpointGone, or StageError if the server does not support it."""
    _change(service, location, "removing", lambda rest: rest.delete_checkpoint_from_tinker_path(location))


def keep(service: Service, location: str) -> None:
    """Keep a checkpoint forever; raises as `remove`."""
    what = "the lifetime of"
    _change(service, location, what, lambda rest: rest.set_checkpoint_ttl_from_tinker_path(location, None))


def _change(service: Service, location: str, doing: str, call: Callable[[Any], Any]) -> None:
    try:
        service.query(call, f"{doing} {location}")
    except CheckpointGone as error:
        # A server without this request answers as one without the checkpoint.
        if not any(each.tinker_path == location for each in _of_run(service, run_of(location))):
            raise
        server = service.connection.server
        raise StageError(f"{server} cannot change {location} ({doing} it), which is unchanged") from error


def _of_run(service: Service, run: str) -> list[Any]:
    page = service.query(lambda rest: rest.list_checkpoints(run), "the run's checkpoints")
    return list(page.checkpoints)


def _listed(found: Any) -> RemoteCheckpoint:
    def aware(time: datetime) -> datetime:  # servers without a zone mean UTC
        return time if time.tzinfo else time.replace(tzinfo=UTC)

    expires = getattr(found, "expires_at", None)
    return RemoteCheckpoint(
        location=found.tinker_path,
        kind=_KINDS[found.checkpoint_type],
        step=saved_step(found.tinker_path),
        bytes=getattr(found, "size_bytes", None),
        created=aware(found.time),
        expires=None if expires is None else aware(expires),
    )
