"""Checkpoints on a server: their names, the record of a save, and listing, removing and keeping them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
_NAME = re.compile(
    r"understudy-(?P<key>[A-Za-z0-9]+)-step(?P<step>[0-9]+)-(?P<writer>[A-Za-z0-9]+)-(?P<nonce>[0-9a-f]+)"
)


@dataclass(frozen=True, slots=True)
class SaveName:
    """The name of one save, shared by its state and its sampler's weights.

    Key, step and writer keep two saves from colliding, and `nonce` differs between attempts, so that a save
    whose answer was lost does not block a later one.
    """

    key: str
    step: int
    writer: str
    nonce: str

    @classmethod
    def new(cls, label: SaveLabel | None, step: int) -> SaveName:
        """Return a name that no other save has."""
        parts = (label.key, label.writer) if label else ("", "")
        key, writer = (re.sub(r"[^A-Za-z0-9]", "", part)[:16] or "none" for part in parts)
        return cls(key, step, writer, secrets.token_hex(4))

    @classmethod
    def read(cls, location: str) -> SaveName | None:
        """Return the name at the end of a path; None if `new` did not create it."""
        found = _NAME.fullmatch(location.rsplit("/", 1)[-1])
        return found and cls(found["key"], int(found["step"]), found["writer"], found["nonce"])

    def __str__(self) -> str:
        return f"understudy-{self.key}-step{self.step:06d}-{self.writer}-{self.nonce}"


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
    name = SaveName.read(state.location)
    if name is None:
        return None
    sampler = SamplerRef(state.location.replace("/weights/", "/sampler_weights/"))
    return Checkpoint(identity, name.step, digest_of(str(identity.server), state), state, sampler)


class Saved(Record):
    """A save on a server, as tinker.json records it."""

    server: str
    model: str
    run: str
    """The training run on the server."""
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


def digest_of(server: str, state: StateRef) -> str:
    """Return the digest of weights that stay on a server: of the only place where they are."""
    return jsonio.digest([server, state.location])


def listed(service: Service) -> list[RemoteCheckpoint]:
    """Return all checkpoints of the key's owner, the latest first."""

    def pages(request: Callable[[Any, int], Any], rows: Callable[[Any], Sequence[Any]]) -> Iterator[Any]:
        offset = 0
        while True:
            page = service.query(lambda rest: request(rest, offset), "the list of checkpoints")  # noqa: B023
            yield from rows(page)
            offset += len(rows(page))
            if not rows(page) or page.cursor is None or offset >= page.cursor.total_count:
                return

    try:
        own = list(pages(lambda rest, at: rest.list_user_checkpoints(_PAGE, at), lambda p: p.checkpoints))
    except CheckpointGone:  # some servers (SkyRL 0.3) list checkpoints only by run
        runs = pages(lambda rest, at: rest.list_training_runs(_PAGE, at), lambda page: page.training_runs)
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


def set_ttl(service: Service, location: str, ttl_s: int | None) -> None:
    """Keep a checkpoint for so many seconds from now (3600 or more), or, with None, forever; as `remove`."""
    what = "the lifetime of"
    _change(service, location, what, lambda rest: rest.set_checkpoint_ttl_from_tinker_path(location, ttl_s))


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

    expires, name = getattr(found, "expires_at", None), SaveName.read(found.tinker_path)
    return RemoteCheckpoint(
        location=found.tinker_path,
        kind=_KINDS[found.checkpoint_type],
        step=None if name is None else name.step,
        bytes=getattr(found, "size_bytes", None),
        created=aware(found.time),
        expires=None if expires is None else aware(expires),
    )
