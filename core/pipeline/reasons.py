"""Why a stage has to run: what changed since the last time it was made."""

from __future__ import annotations

import logging

from core.errors import StoreError
from core.stages import Stage, changed
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import RunView, run_names

log = logging.getLogger(__name__)


def why_run(view: RunView, stage: Stage) -> str:
    """In words, compared with the run's own last record, else with the newest under the root."""
    earlier, whose = _own(view, stage), ""
    if earlier is None:
        earlier, whose = _newest(view.store, stage)
    if earlier is None:
        return "not made before"
    differences = changed(stage, earlier.ingredients)
    if not differences:
        return "its files are missing or damaged"
    return "; ".join(differences[:5]) + (f" (compared with {whose})" if whose else "")


def _own(view: RunView, stage: Stage) -> Manifest | None:
    entry = view.stages().get(stage.slot)
    return view.store.find(stage.name, entry["key"]) if entry else None


def _newest(store: Store, stage: Stage) -> tuple[Manifest | None, str]:
    """The newest record of the same place in any run; where no run has one, the newest object.

    Of a stage that a run calls several times, one object says nothing about another.
    """
    recorded = []
    for name in run_names(store):
        try:
            entry = RunView(store, name).stages().get(stage.slot)
        except StoreError as e:  # another run's record must not stop this one
            log.warning("%s", e)
            continue
        if entry:
            recorded.append((entry["at"], name, entry["key"]))
    for _, name, key in sorted(recorded, reverse=True):
        if (manifest := store.find(stage.name, key)) is not None:
            return manifest, f"run {name}"
    if stage.slot != stage.name:
        return None, ""
    folder = f"objects/{stage.name}"
    manifests = [f for f in store.backend.list(folder) if f.path.count("/") == 2]
    for found in sorted(manifests, key=lambda f: f.modified, reverse=True):
        key = found.path.removeprefix(f"{folder}/").removesuffix(".json")
        if (manifest := store.find(stage.name, key)) is not None:
            return manifest, f"what was made {manifest.created_at}"
    return None, ""
