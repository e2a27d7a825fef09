"""A run's folder: the view people read, filled from objects on a hit and on a miss alike."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import MissingInputError
from core.stages import Stage, changed
from core.store import local
from core.store.manifest import Manifest
from core.store.objects import Store, now


@dataclass(frozen=True, slots=True)
class RunView:
    """The folder `runs/<name>` and its record of which object each stage came from."""

    store: Store
    name: str

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        return self.store.root / "runs" / self.name

    def fill(self, manifest: Manifest, files: Mapping[str, str]) -> None:
        """Copy an object's files (name in the object -> place in the view), each at once."""
        source = self.store.folder(manifest)
        for name, place in files.items():
            copy(source / name, self.folder / place)

    def write(self, place: str, data: str) -> Path:
        """Write one text of the view, at once."""
        path = self.folder / place
        local.replace_bytes(path, data.encode())
        return path

    def write_json(self, place: str, value: Any) -> Path:
        """Write one JSON file of the view; NaN is refused."""
        return self.write(place, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @contextlib.contextmanager
    def replacing(self, place: str) -> Iterator[Path]:
        """A path to write a file to, which then takes its place at once; on an error, nothing does."""
        with _replacing(self.folder / place) as temporary:
            yield temporary

    def record(self, stage: str, manifest: Manifest, *, reused: bool) -> None:
        """Note in stages.json which object a stage of this run came from."""
        stages = dict(self.stages())
        stages[stage] = {"key": manifest.key, "digest": manifest.digest, "reused": reused, "at": now()}
        self.write_json("stages.json", stages)

    def keep_only(self, slots: Iterable[str]) -> None:
        """Forget the record of stages that the finished run did not come by."""
        kept, stages = set(slots), self.stages()
        self.write_json("stages.json", {slot: entry for slot, entry in stages.items() if slot in kept})

    def stages(self) -> Mapping[str, Any]:
        """The record of the last run under this name, empty where there is none."""
        found = self.store.read_json(f"runs/{self.name}/stages.json")
        return found if isinstance(found, dict) else {}

    def earlier(self, slot: str, *, file: str) -> Manifest:
        """The object that this run's record names for a stage, checked.

        Raises MissingInputError naming the run and the file where there is none.
        """
        entry = self.stages().get(slot)
        if entry is None:
            raise MissingInputError(
                f"stage {slot} is switched off, and run {self.name} has no {file} of its own "
                f"({self.folder / file}); switch the stage on, or name a run with teacher_from"
            )
        manifest = self.store.sound(slot.partition("/")[0], entry["key"])
        if manifest is None:
            raise MissingInputError(
                f"run {self.name}: the {slot} it used (key {entry['key'][:12]}) is missing or damaged "
                f"under {self.store.root / 'objects'}; switch the stage on to make it again"
            )
        return manifest


def copy(source: Path, target: Path) -> None:
    """Copy a file to its place, at once."""
    with _replacing(target) as temporary:
        shutil.copyfile(source, temporary)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    with local.explained(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.tmp{target.suffix}")
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def run_config(root: Path, name: str) -> Path:
    """The resolved config of a run. Raises MissingInputError naming the runs there are."""
    path = root / "runs" / name / "resolved_config.yaml"
    if path.is_file():
        return path
    runs = root / "runs"
    there = sorted(p.name for p in runs.iterdir()) if runs.is_dir() else []
    raise MissingInputError(
        f"there is no run {name} under {root.absolute()}; "
        + (f"there are: {', '.join(there)}" if there else "it has no runs")
    )


def why_run(view: RunView, stage: Stage) -> str:
    """Why a stage has to run: what changed since the run's own last record."""
    entry = view.stages().get(stage.slot)
    earlier = view.store.find(stage.name, entry["key"]) if entry else None
    if earlier is None:
        return "not made before"
    differences = changed(stage, earlier.ingredients)
    return "; ".join(differences[:5]) if differences else "its files are missing or damaged"
