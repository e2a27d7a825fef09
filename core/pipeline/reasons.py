"""Why a stage has to run: the changes since it was last built."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property

from core.errors import StoreError
from core.stage import StageCall, changed
from core.store.manifest import Manifest
from core.store.runs import FOLDER, RECORD, RunView, StageRecord

log = logging.getLogger(__name__)

SHOWN = 5
"""Ingredients that changed, at most."""
LOOKED_AT = 100
"""Other runs whose records are read, at most: under an S3 root each is a request."""


class Reasons:
    """Why the stages of one run have to run. Other runs are listed once, and each record is read once."""

    def __init__(self, view: RunView, before: str | None = None) -> None:
        """`before` is the earlier run of this name, if --new set it aside."""
        self._view, self._store, self._before = view, view.store, before
        self._records: dict[str, Mapping[str, StageRecord]] = {}

    def own(self, call: StageCall) -> str:
        """The changes since this run, or the earlier run of its name, built the stage; else "not cached"."""
        earlier = self._found(call, self._view.stages())
        if earlier is None and self._before is not None:
            earlier = self._found(call, self._record(self._before))
        return "not cached" if earlier is None else self._differences(call, earlier, "")

    def why(self, call: StageCall) -> str:
        """The same for a plan, which also compares with the run that worked last."""
        earlier, whose, others = self._found(call, self._view.stages()), "", iter(self._others)
        while earlier is None and (name := next(others, None)) is not None:
            earlier, whose = self._found(call, self._record(name)), f"run {name}"
        if earlier is None and call.slot == call.name:  # a stage that a run calls only once
            earlier, whose = self._newest(call)
        return "not made before" if earlier is None else self._differences(call, earlier, whose)

    def _differences(self, call: StageCall, earlier: Manifest, whose: str) -> str:
        differences = changed(call, earlier.ingredients)
        if not differences:
            return "its files are missing or damaged"
        return "; ".join(differences[:SHOWN]) + (f" (compared with {whose})" if whose else "")

    def _found(self, call: StageCall, record: Mapping[str, StageRecord]) -> Manifest | None:
        entry = record.get(call.slot)
        return self._store.find(call.name, entry.key) if entry else None

    def _newest(self, call: StageCall) -> tuple[Manifest | None, str]:
        folder = f"objects/{call.name}"
        manifests = [f for f in self._store.backend.list(folder) if f.path.count("/") == 2]
        for found in sorted(manifests, key=lambda f: f.modified, reverse=True):
            key = found.path.removeprefix(f"{folder}/").removesuffix(".json")
            if (manifest := self._store.find(call.name, key)) is not None:
                return manifest, f"what was made {manifest.created_at}"
        return None, ""

    @cached_property
    def _others(self) -> list[str]:
        """The other runs, the one that worked last first."""
        start, end = f"{FOLDER}/", f"/{RECORD}"
        files = sorted(self._store.backend.list(FOLDER), key=lambda f: (f.modified, f.path), reverse=True)
        records = [f.path for f in files if f.path.endswith(end) and f.path.count("/") == 2]
        names = [path.removeprefix(start).removesuffix(end) for path in records]
        return [name for name in names if name != self._view.name][:LOOKED_AT]

    def _record(self, name: str) -> Mapping[str, StageRecord]:
        if name not in self._records:
            try:
                self._records[name] = RunView(self._store, name).stages()
            except StoreError as e:  # another run's record must not stop this one
                log.warning("%s", e)
                self._records[name] = {}
        return self._records[name]
