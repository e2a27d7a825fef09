"""How often a test split was read: once for each frozen student that was measured on it, in any run.

A read is a file `test_reads/<sha256 of test.csv>/<key>.json`, written before the figures are made. The
key holds all that was frozen, so that the same student measured again is no other read. Who chose among
several students by what they reach on test has selected on it: the count says how many there were.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from core import jsonio
from core.errors import StoreError
from core.jsonio import now
from core.store.manifest import Manifest
from core.store.objects import Store

FOLDER = "test_reads"
_FIELDS = ("run", "at", "what")


@dataclass(frozen=True, slots=True)
class Read:
    """One frozen student on one test split: in which run, when (ISO 8601), and which it was."""

    run: str
    at: str
    what: str


def digest(split: Manifest) -> str:
    """What stands for a test split: the sha256 of its texts and labels, in their order."""
    return split.files["test.csv"].sha256


def note(store: Store, split: Manifest, frozen: Sequence[Manifest], run: str, what: str) -> None:
    """Note that a student is about to be measured on the split's test; `frozen` is all it consists of."""
    key = jsonio.digest([manifest.digest for manifest in frozen])[:32]
    content = json.dumps({"run": run, "at": now(), "what": what}, ensure_ascii=False, indent=2)
    store.backend.create(f"{FOLDER}/{digest(split)}/{key}.json", content.encode() + b"\n")


def of(store: Store, split: Manifest) -> list[Read]:
    """All reads of the split's test under the root, the earliest first.

    Raises StoreError where a file is no record of a read: one that is not counted would be hidden.
    """
    files = store.backend.list(f"{FOLDER}/{digest(split)}")
    found = [_read(store, file.path) for file in files if file.path.endswith(".json")]
    return sorted(found, key=lambda read: (read.at, read.run))


def _read(store: Store, path: str) -> Read:
    value = store.read_json(path)
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in _FIELDS):
        raise StoreError(
            f"{store.where(path)} is no record of a read of test; remove it and run the same command again"
        )
    return Read(*(value[name] for name in _FIELDS))
