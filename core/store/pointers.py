"""Pointers, which name a run's model, and garbage: what no run, no pointer and no live lease refers to.

A pointer is a small JSON file that is replaced atomically and contains its own history. Garbage is objects
without a reference, and what killed writers left behind. Nothing younger than a grace period or under a live
lease is removed. References are read again right before anything is removed, since a run may have added some
in the meantime.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core import durable
from core.errors import PassingError, StoreError
from core.jsonio import indented
from core.store import leases
from core.store.backend import FoundFile
from core.store.leases import writer_id
from core.store.objects import Store, manifest_path
from core.store.run_view import FOLDER as RUNS
from core.store.run_view import RunView, run_names

FOLDER = "model"
LATEST = "latest"
_HISTORY = ("saved_at", "run_name", "best_model_path")
_TRIES = 200
AT_WORK = 600.0
"""The least grace in seconds while a run is active: it has yet to record what it has just built."""

ObjectId = tuple[str, str]
"""Stage and key."""


def publish(
    store: Store, run: str, content: Mapping[str, Any], needed: Sequence[str], *, latest: str = LATEST
) -> list[str]:
    """Swap model/<run>.json, then model/<latest>.json, after everything they name exists; return both paths.

    `needed` are files or folders under the root. Raises StoreError for the first that does not exist, and
    PassingError if other runs publish without a pause.
    """
    for relative in needed:
        if not store.backend.list(relative) and store.backend.read(relative) is None:
            raise StoreError(
                f"not published: {store.where(relative)} does not exist; run the same command again"
            )
    writer = writer_id()
    swap(store, run, content, writer)
    durable.failpoint(durable.RUN_POINTER_SWAPPED, run)
    swap(store, latest, content, writer)
    durable.failpoint(durable.LATEST_POINTER_SWAPPED, run)
    return [store.where(_path(run)), store.where(_path(latest))]


def swap(store: Store, name: str, content: Mapping[str, Any], writer: str) -> None:
    """Write a pointer with its history extended; repeat until nobody else wrote in between.

    `writer` marks the entry, so that a write whose reply was lost is found even after others have written:
    nothing is published twice.
    """
    path = _path(name)
    entry = {"writer": writer, **{key: content[key] for key in _HISTORY if key in content}}
    for attempt in range(_TRIES):
        found = store.backend.read(path)
        earlier = _content(store, path, found.data).get("history") if found is not None else None
        earlier = earlier if isinstance(earlier, list) else []
        history = [e for e in earlier if isinstance(e, dict) and "writer" in e]
        if any(before["writer"] == writer for before in history):
            return
        data = indented({**content, "history": [*history, entry]}).encode()
        if found is None:
            done = store.backend.create(path, data)
        else:
            done = store.backend.swap(path, data, found.version)
        if done:
            return
        time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))
    raise PassingError(f"{store.where(path)}: others wrote it {_TRIES} times in between; run the same again")


def retarget(store: Store, before: str, after: str) -> None:
    """Replace the run folder `before` by `after`, which has the same files, in all pointers that name it."""

    def moved(value: Any) -> Any:
        if isinstance(value, str) and f"{value}/".startswith(before):
            return (after + f"{value}/".removeprefix(before)).rstrip("/")
        return value

    for name in names(store):
        while (found := store.backend.read(_path(name))) is not None:
            content = _content(store, _path(name), found.data)
            changed = {key: moved(value) for key, value in content.items()}
            if changed == content or store.backend.swap(
                _path(name), indented(changed).encode(), found.version
            ):
                break


def read(store: Store, name: str = LATEST) -> Mapping[str, Any] | None:
    """Return the content of a pointer; None if there is none. Raises StoreError if it is damaged."""
    found = store.backend.read(_path(name))
    return None if found is None else _content(store, _path(name), found.data)


def run_dir(store: Store, name: str) -> str | None:
    """The run folder that a pointer names; None without such a pointer."""
    found = (read(store, name) or {}).get("run_dir")
    return found if isinstance(found, str) else None


def names(store: Store) -> list[str]:
    """The names of all pointers."""
    found = (f.path.removeprefix(f"{FOLDER}/") for f in store.backend.list(FOLDER))
    return [name.removesuffix(".json") for name in found if name.endswith(".json") and name[0] != "."]


@dataclass(frozen=True, slots=True)
class Garbage:
    """Files to remove: of whole objects, and of writers that did not finish or were replaced."""

    objects: Mapping[ObjectId, list[FoundFile]]
    leftovers: list[FoundFile]
    young: int = 0
    """Objects without a reference that stay, since they are within the grace period."""

    @property
    def files(self) -> list[FoundFile]:
        return [*(f for files in self.objects.values() for f in files), *self.leftovers]

    @property
    def bytes(self) -> int:
        """What removing them frees."""
        return sum(f.bytes for f in self.files)


@dataclass(slots=True)
class Referred:
    """What runs, pointers and live leases name."""

    objects: set[ObjectId] = field(default_factory=set)
    writers: set[str] = field(default_factory=set)
    """Folders of writers, as `objects/<stage>/<key>/<writer>`."""
    leased: set[ObjectId] = field(default_factory=set)

    def names(self, path: str) -> bool:
        """Whether a file is of a named writer, or is a live lease."""
        parts = path.split("/")
        if parts[0] == leases.FOLDER:
            return (parts[1], "/".join(parts[2:]).removesuffix(".json")) in self.leased
        return "/".join(parts[:4]) in self.writers


def find_garbage(store: Store, grace: float = 24 * 3600.0) -> Garbage:
    """Return what could be removed now, `grace` in seconds; removes nothing."""
    listing, kept = store.backend.list(""), referred(store)
    if any(stage == RUNS for stage, _ in kept.leased):
        grace = max(grace, AT_WORK)
    until = time.time() - grace
    objects: dict[ObjectId, list[FoundFile]] = defaultdict(list)
    leftovers = []
    for found in listing:
        parts = found.path.split("/")
        temporary = parts[-1].startswith(".") and (".tmp" in parts[-1] or parts[-1].startswith(".probe-"))
        if temporary or parts[0] == leases.FOLDER:
            if found.modified < until and not kept.names(found.path):
                leftovers.append(found)
        elif parts[0] == "objects" and len(parts) >= 3:
            objects[parts[1], parts[2].removesuffix(".json")].append(found)
    whole: dict[ObjectId, list[FoundFile]] = {}
    young = 0
    for name, files in objects.items():
        if name in kept.leased:
            continue
        if name in kept.objects:
            leftovers += _replaced(store, name, files, kept, until)
        elif max(f.modified for f in files) < until:
            whole[name] = files
        else:
            young += 1
    return Garbage(whole, leftovers, young)


def collect(store: Store, garbage: Garbage) -> Garbage:
    """Remove what is still garbage, and return it."""
    kept = referred(store)
    still = {i: files for i, files in garbage.objects.items() if i not in kept.objects | kept.leased}
    done = Garbage(still, [f for f in garbage.leftovers if not kept.names(f.path)])
    manifests = {manifest_path(*name) for name in still}
    # In two calls: within one, the order is the backend's.
    store.backend.remove(manifests)
    records = [f"cache/{stage}/{key}.json" for stage, key in still]
    store.backend.remove([*(f.path for f in done.files if f.path not in manifests), *records])
    return done


def referred(store: Store) -> Referred:
    """Read every run's record, every pointer and every lease."""
    out = Referred()
    for name in run_names(store):
        for slot, entry in RunView(store, name).stages().items():
            stage = slot.partition("/")[0]
            out.objects.add((stage, entry.key))
            if entry.writer is not None:
                out.writers.add(f"objects/{stage}/{entry.key}/{entry.writer}")
    for name in names(store):
        for value in (read(store, name) or {}).values():
            parts = value.split("/") if isinstance(value, str) else []
            if len(parts) >= 4 and parts[0] == "objects":
                out.objects.add((parts[1], parts[2]))
                out.writers.add("/".join(parts[:4]))
    for found in store.backend.list(leases.FOLDER):
        name = found.path.removeprefix(f"{leases.FOLDER}/").removesuffix(".json")
        if leases.is_live(store.backend, name):
            stage, _, key = name.partition("/")
            out.leased.add((stage, key))
    return out


def _path(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def _content(store: Store, path: str, data: bytes) -> dict[str, Any]:
    """The content; a damaged pointer is never overwritten, since its history would be lost."""
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise StoreError(
            f"{store.where(path)} is damaged: it is not a JSON object; remove it, or restore a copy of it, "
            "and run the same command again"
        )
    return content


def _replaced(
    store: Store, name: ObjectId, files: list[FoundFile], kept: Referred, until: float
) -> Iterator[FoundFile]:
    """Files of writers that neither the manifest nor a run nor a pointer names; most objects have none."""
    by_writer: dict[str, list[FoundFile]] = defaultdict(list)
    for found in files:
        if found.path.count("/") > 2:
            by_writer["/".join(found.path.split("/")[:4])].append(found)
    if len(by_writer) < 2:
        return
    manifest = store.find(*name)
    current = manifest.folder if manifest is not None else None
    for writer, own in by_writer.items():
        if writer not in kept.writers and writer != current and max(f.modified for f in own) < until:
            yield from own
