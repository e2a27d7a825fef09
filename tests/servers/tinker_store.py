"""Training runs and checkpoints of the Tinker server, as folders that outlive it."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from core.durable import replace_bytes
from core.engines import LoraSpec
from tests.servers.tinker_orders import CheckpointKind, Told

SCHEME = "tinker://"
KINDS: dict[CheckpointKind, str] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_SHORTEST_TTL, _LONGEST_TTL = 3600, 10 * 365 * 24 * 3600


class NoSuchPath(ValueError):
    """A path that is none, names the wrong kind, or leads nowhere (any more); `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Run(Told):
    """A training run, as its file has it."""

    id: str
    base_model: str
    rank: int
    train_mlp: bool
    train_attn: bool
    train_unembed: bool
    created: float
    user_metadata: dict[str, str] | None = None

    @classmethod
    def of(cls, id: str, base_model: str, lora: LoraSpec, now: float, metadata: dict[str, str] | None) -> Run:
        return cls(
            id=id,
            base_model=base_model,
            rank=lora.rank,
            train_mlp=lora.train_mlp,
            train_attn=lora.train_attention,
            train_unembed=lora.train_unembed,
            created=now,
            user_metadata=metadata,
        )


class Kept(Told):
    """A checkpoint, as its file has it; times in seconds of the Unix clock."""

    run: str
    kind: CheckpointKind
    name: str
    step: int
    created: float
    expires: float | None
    size: int
    public: bool = False
    user_metadata: dict[str, str] | None = None

    @property
    def path(self) -> str:
        return f"{SCHEME}{self.run}/{self.kind}/{self.name}"

    def listed(self) -> dict[str, object]:
        """As the protocol lists it."""
        return {
            "checkpoint_id": f"{self.kind}/{self.name}",
            "checkpoint_type": KINDS[self.kind],
            "time": moment(self.created),
            "tinker_path": self.path,
            "size_bytes": self.size,
            "public": self.public,
            "user_metadata": self.user_metadata,
            "expires_at": None if self.expires is None else moment(self.expires),
        }


class Shelf:
    """All runs and checkpoints under one folder."""

    def __init__(self, folder: Path) -> None:
        self._runs, self._checkpoints = folder / "runs", folder / "checkpoints"
        self._parts = folder / "parts"
        shutil.rmtree(self._parts, ignore_errors=True)
        for each in (self._runs, self._checkpoints, self._parts):
            each.mkdir(parents=True, exist_ok=True)

    def begin(self, run: Run) -> None:
        """Remember a training run."""
        replace_bytes(self._runs / f"{run.id}.json", run.model_dump_json().encode())

    def run(self, id: str) -> Run | None:
        path = self._runs / f"{id}.json"
        return Run.model_validate_json(path.read_bytes()) if path.is_file() else None

    def runs(self) -> list[Run]:
        """The latest first."""
        found = [Run.model_validate_json(path.read_bytes()) for path in self._runs.glob("*.json")]
        return sorted(found, key=lambda run: (-run.created, run.id))

    def keep(self, kept: Kept, write: Callable[[Path], None], *, replace: bool = False) -> Kept:
        """Let `write` fill a folder that then becomes the checkpoint, whole or not at all."""
        final, part = self.folder(kept), self._parts / uuid.uuid4().hex
        part.mkdir()
        write(part)
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        kept = kept.model_copy(update={"size": size})
        (part / "kept.json").write_text(kept.model_dump_json(), encoding="utf-8")
        final.parent.mkdir(parents=True, exist_ok=True)
        if replace and final.exists():
            final.rename(self._parts / uuid.uuid4().hex)
        part.rename(final)
        return kept

    def find(self, path: str, *kinds: CheckpointKind) -> Kept:
        """The checkpoint at a path, which must be of these kinds. Raises NoSuchPath."""
        run, kind, name = parse(path)
        if kinds and kind not in kinds:
            wanted = " or ".join(kinds)
            raise NoSuchPath(f"{path} is of {kind}, but {wanted} are needed here", 400)
        kept = self.get(run, kind, name)
        if kept is None:
            raise NoSuchPath(f"{path} does not exist or has expired", 404)
        return kept

    def get(self, run: str, kind: CheckpointKind, name: str) -> Kept | None:
        file = self._checkpoints / run / kind / name / "kept.json"
        if not file.is_file():
            return None
        kept = Kept.model_validate_json(file.read_bytes())
        return None if kept.expires is not None and kept.expires <= time.time() else kept

    def all(self, run: str | None = None) -> list[Kept]:
        """The latest first."""
        places = self._checkpoints.glob(f"{run or '*'}/*/*/kept.json")
        found = [Kept.model_validate_json(path.read_bytes()) for path in places]
        living = [k for k in found if k.expires is None or k.expires > time.time()]
        return sorted(living, key=lambda kept: (-kept.created, kept.path))

    def folder(self, kept: Kept) -> Path:
        return self._checkpoints / kept.run / kept.kind / kept.name

    def change(self, kept: Kept, **fields: object) -> None:
        changed = kept.model_copy(update=fields)
        replace_bytes(self.folder(kept) / "kept.json", changed.model_dump_json().encode())

    def delete(self, kept: Kept) -> None:
        self.folder(kept).rename(self._parts / uuid.uuid4().hex)

    def expire(self, path: str | None) -> int:
        """End the time of the checkpoint at a path, or of all that have one; gives how many."""
        ending = [self.find(path)] if path is not None else [k for k in self.all() if k.expires is not None]
        for kept in ending:
            self.change(kept, expires=0.0)
        return len(ending)


def parse(path: str) -> tuple[str, CheckpointKind, str]:
    """Run, kind and name of tinker://<run>/<kind>/<name>. Raises NoSuchPath."""
    parts = path.removeprefix(SCHEME).split("/")
    kind = next((k for k in KINDS if len(parts) == 3 and k == parts[1]), None)
    if not path.startswith(SCHEME) or kind is None or not all(map(_NAME.fullmatch, (parts[0], parts[2]))):
        raise NoSuchPath(f"{path!r} is no path of weights; it is tinker://<run>/weights/<name>", 400)
    return parts[0], kind, parts[2]


def check_name(name: str | None) -> str:
    """Raises ValueError for what can be no checkpoint's name."""
    if name is None or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no checkpoint name; use letters, digits, and . _ -")
    return name


def expiry(ttl_seconds: int | None) -> float | None:
    """When what is written now ends. Raises ValueError for a time that is too short or too long."""
    if ttl_seconds is None:
        return None
    if not _SHORTEST_TTL <= ttl_seconds <= _LONGEST_TTL:
        raise ValueError(
            f"ttl_seconds is {ttl_seconds}; it must be between {_SHORTEST_TTL} and {_LONGEST_TTL}"
        )
    return time.time() + ttl_seconds


def moment(at: float) -> str:
    """A time as the protocol writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat()
