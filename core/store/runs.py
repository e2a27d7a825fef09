"""A run's folder: the view people read, filled from objects on a hit and on a miss alike."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import MissingInputError
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

    def record(self, stage: str, manifest: Manifest, *, reused: bool) -> None:
        """Note in stages.json which object a stage of this run came from."""
        stages = dict(self.stages())
        stages[stage] = {"key": manifest.key, "digest": manifest.digest, "reused": reused, "at": now()}
        self.write_json("stages.json", stages)

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
    with local.explained(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            shutil.copyfile(source, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
