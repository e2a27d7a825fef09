"""Garbage: objects that no run and no pointer refers to, and what killed writers left behind.

Nothing younger than a grace period is touched, nor what a live lease covers. What is referred to is
looked up once more right before anything is removed, since a run may have come by meanwhile.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.store import leases, pointers
from core.store.backend import Found
from core.store.manifest import manifest_path
from core.store.objects import Store
from core.store.runs import FOLDER, RunView, run_names

GRACE = 24 * 3600.0
"""Seconds."""
AT_WORK = 600.0
"""Seconds of grace at least while a run is at work: what it has just made, it has yet to record."""

ObjectId = tuple[str, str]
"""Stage and key."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Files to remove: of whole objects, and of writers that came to nothing."""

    objects: Mapping[ObjectId, list[Found]]
    leftovers: list[Found]
    young: int = 0
    """Objects that nothing refers to and that stay, since they are within the grace period."""

    @property
    def files(self) -> list[Found]:
        """All of them."""
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


def find_garbage(store: Store, grace: float = GRACE) -> Garbage:
    """What could be removed now; removes nothing."""
    there, kept = store.backend.list(""), referred(store)
    if any(stage == FOLDER for stage, _ in kept.leased):
        grace = max(grace, AT_WORK)
    return _sort(store, there, kept, time.time() - grace)


def collect(store: Store, garbage: Garbage) -> Garbage:
    """Remove what is still garbage, and say what that was."""
    kept = referred(store)
    still = {i: files for i, files in garbage.objects.items() if i not in kept.objects | kept.leased}
    done = Garbage(still, [f for f in garbage.leftovers if not _named(f.path, kept)])
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
            out.objects.add((slot.partition("/")[0], entry.key))
            if entry.writer is not None:
                out.writers.add(f"objects/{slot.partition('/')[0]}/{entry.key}/{entry.writer}")
    for name in pointers.names(store):
        _refer(pointers.read(store, name) or {}, out)
    for found in store.backend.list(leases.FOLDER):
        stage, _, rest = found.path.removeprefix(f"{leases.FOLDER}/").partition("/")
        if leases.is_live(store.backend, f"{stage}/{rest.removesuffix('.json')}"):
            out.leased.add((stage, rest.removesuffix(".json")))
    return out


def _refer(pointer: Mapping[str, Any], out: Referred) -> None:
    for value in pointer.values():
        parts = value.split("/") if isinstance(value, str) else []
        if len(parts) >= 4 and parts[0] == "objects":
            out.objects.add((parts[1], parts[2]))
            out.writers.add("/".join(parts[:4]))


def _sort(store: Store, there: Iterable[Found], kept: Referred, until: float) -> Garbage:
    objects: dict[ObjectId, list[Found]] = defaultdict(list)
    leftovers = []
    for found in there:
        parts = found.path.split("/")
        if _is_temporary(parts[-1]) or parts[0] == leases.FOLDER:
            if found.modified < until and not _named(found.path, kept):
                leftovers.append(found)
        elif parts[0] == "objects" and len(parts) >= 3:
            objects[parts[1], parts[2].removesuffix(".json")].append(found)
    whole: dict[ObjectId, list[Found]] = {}
    young = 0
    for name, files in objects.items():
        if name in kept.leased:
            continue
        if name in kept.objects:
            leftovers += _unnamed(store, name, files, kept, until)
        elif max(f.modified for f in files) < until:
            whole[name] = files
        else:
            young += 1
    return Garbage(whole, leftovers, young)


def _unnamed(
    store: Store, name: ObjectId, files: list[Found], kept: Referred, until: float
) -> Iterator[Found]:
    """Files of writers that neither the manifest nor a run nor a pointer names; most objects have none."""
    by_writer: dict[str, list[Found]] = defaultdict(list)
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


def _named(path: str, kept: Referred) -> bool:
    """Whether a leftover has come to be named since."""
    parts = path.split("/")
    if parts[0] == leases.FOLDER:
        return (parts[1], "/".join(parts[2:]).removesuffix(".json")) in kept.leased
    return "/".join(parts[:4]) in kept.writers


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and (".tmp" in name or name.startswith(".probe-"))
