"""Why a stage has to run: the changes since it was last built."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from core.errors import StoreError
from core.stage import StageCall, changed
from core.store import Manifest, RunView, StageRecord
from core.store.run_view import FOLDER, RECORD

log = logging.getLogger(__name__)

SHOWN = 5
"""Ingredients that changed, at most."""
LOOKED_AT = 100
"""Other runs whose records are read, at most: under an S3 root each is a request."""


class Reasons:
    """Why the stages of one run have to run. Other runs are listed once, and each record is read once."""

    def __init__(self, view: RunView, before: str | None = None) -> None:
        """`before` is the earlier run of this name, if --new set it aside."""
        self._view, self._store = view, view.store
        self._own = (view.name,) if before is None else (view.name, before)
        self._records: dict[str, Mapping[str, StageRecord]] = {}

    def own(self, call: StageCall) -> str:
        """The changes since this run, or the earlier run of its name, built the stage; else "not cached"."""
        for _, earlier in self._earlier(call, self._own):
            return _differences(call, earlier)
        return "not cached"

    def why(self, call: StageCall) -> str:
        """The same for a plan, which also compares with the run that worked last."""
        for _, earlier in self._earlier(call, self._own):
            return _differences(call, earlier)
        for name, earlier in self._earlier(call, self._others):
            return _differences(call, earlier, f"run {name}")
        # Of a stage that a run calls several times, the newest object may be of another step.
        if call.slot == call.name and (newest := self._newest(call)) is not None:
            return _differences(call, newest, f"what was made {newest.created_at}")
        return "not made before"

    def _earlier(self, call: StageCall, runs: Iterable[str]) -> Iterator[tuple[str, Manifest]]:
        """The objects that the records of these runs name for the stage, with the name of the run."""
        for name in runs:
            entry = self._record(name).get(call.slot)
            if entry is not None and (found := self._store.find(call.name, entry.key)) is not None:
                yield name, found

    def _newest(self, call: StageCall) -> Manifest | None:
        folder = f"objects/{call.name}"
        manifests = [f for f in self._store.backend.list(folder) if f.path.count("/") == 2]
        manifests.sort(key=lambda f: f.modified, reverse=True)
        keys = (f.path.removeprefix(f"{folder}/").removesuffix(".json") for f in manifests)
        return next(filter(None, (self._store.find(call.name, key) for key in keys)), None)

    @cached_property
    def _others(self) -> list[str]:
        """The other runs, the one that worked last first."""
        start, end = f"{FOLDER}/", f"/{RECORD}"
        files = sorted(self._store.backend.list(FOLDER), key=lambda f: (f.modified, f.path), reverse=True)
        records = [f.path for f in files if f.path.endswith(end) and f.path.count("/") == 2]
        names = [path.removeprefix(start).removesuffix(end) for path in records]
        return [name for name in names if name != self._view.name][:LOOKED_AT]

    def _record(self, name: str) -> Mapping[str, StageRecord]:
        if name == self._view.name:
            return self._view.stages()
        if name not in self._records:
            try:
                self._records[name] = RunView(self._store, name).stages()
            except StoreError as e:  # another run's record must not stop this one
                log.warning("%s", e)
                self._records[name] = {}
        return self._records[name]


def _differences(call: StageCall, earlier: Manifest, whose: str = "") -> str:
    differences = changed(call, earlier.ingredients)
    if not differences:
        return "its files are missing or damaged"
    return "; ".join(differences[:SHOWN]) + (f" (compared with {whose})" if whose else "")
