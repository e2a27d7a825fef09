"""Garbage: objects that no run and no pointer refers to, and what killed writers left behind.

Nothing younger than a grace period or under a live lease is removed. References are read again right before
anything is removed, since a run may have added some in the meantime.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from core.store import leases, pointers
from core.store.backend import FoundFile
from core.store.manifest import manifest_path
from core.store.objects import Store
from core.store.runs import FOLDER, RunView, run_names

AT_WORK = 600.0
"""The least grace in seconds while a run is active: it has yet to record what it has just built."""

ObjectId = tuple[str, str]
"""Stage and key."""


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
    if any(stage == FOLDER for stage, _ in kept.leased):
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
    for name in pointers.names(store):
        for value in (pointers.read(store, name) or {}).values():
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
