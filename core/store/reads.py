"""How often a test split was read: once for each frozen student that was measured on it, in any run.

A read is a file `test_reads/<sha256 of test.csv>/<key>.json`, written before the metrics are computed. The
key covers everything that was frozen, so that measuring the same student again is not another read. Choosing
among several students by their test metrics is a selection on test: the count shows how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from core import jsonio
from core.errors import StoreError
from core.jsonio import now
from core.records import SplitName
from core.store.manifest import Manifest
from core.store.objects import Store

FOLDER = "test_reads"


@dataclass(frozen=True, slots=True)
class Read:
    """One frozen student on one test split: in which run, when (ISO 8601), and which student."""

    run: str
    at: str
    what: str


def digest(split: Manifest, name: SplitName = "test") -> str:
    """The identity of a part of a split: the sha256 of its texts and labels, in their order."""
    return split.files[f"{name}.csv"].sha256


def note(store: Store, split: Manifest, frozen: Sequence[Manifest], run: str, what: str) -> None:
    """Record that a student, which `frozen` consists of, is about to be measured on the split's test."""
    key = jsonio.digest([manifest.digest for manifest in frozen])[:32]
    read = jsonio.as_row(Read(run, now(), what))
    store.backend.create(f"{FOLDER}/{digest(split)}/{key}.json", jsonio.indented(read).encode())


def of(store: Store, split: Manifest) -> list[Read]:
    """All reads of the split's test under the root, the earliest first.

    Raises StoreError for a damaged record: a read that is not counted would be hidden.
    """
    found = []
    record = TypeAdapter(Read)
    for file in store.backend.list(f"{FOLDER}/{digest(split)}"):
        if file.path.endswith(".json"):
            try:
                found.append(record.validate_python(store.read_json(file.path)))
            except ValidationError:
                raise StoreError(
                    f"{store.where(file.path)} is not a record of a read of test; remove it and run the same "
                    "command again"
                ) from None
    return sorted(found, key=lambda read: (read.at, read.run))
