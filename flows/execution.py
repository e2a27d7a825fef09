"""One run in progress: calls stages as tasks, verifies before it believes, fills the run's folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Task

from core.config.loading import ResolvedConfig
from core.config.writing import render
from core.errors import MissingInputError
from core.pipeline.stages import Pipeline
from core.stages import Stage
from core.store.manifest import Manifest
from core.store.objects import Store, now
from core.store.runs import RunView, why_run
from flows.switches import Switches
from tasks.policy import StageCall
from tasks.progress import ArtifactProgress

log = logging.getLogger(__name__)

_FROM_TEACHER_RUN = ("split", "sample", "reject")


class Execution:
    """The store, the view, the switches and the pipeline of one run."""

    def __init__(self, resolved: ResolvedConfig, switches: Switches, *, writes_config: bool = True) -> None:
        self.resolved, self.config, self.switches = resolved, resolved.config, switches
        self.store = Store.open(self.config.run.root)
        self.view = RunView(self.store, resolved.run_name)
        self.pipeline = Pipeline(self.config)
        self.used: dict[str, Manifest] = {}
        self._taken: dict[str, str] = {}
        if writes_config:
            self.view.write("resolved_config.yaml", render(resolved))

    def do(
        self, task: Task[[StageCall], dict[str, str]], stage: Callable[[], Stage], slot: str, file: str
    ) -> Manifest:
        """The manifest of one stage: made, reused, or, where the stage is off, taken from a record.

        `slot` is the stage's place in the run's record, `file` the file a reader would look for.
        """
        name = slot.partition("/")[0]
        if not self.switches.on(name):
            manifest = self._earlier(slot, name, file)
        else:
            manifest = self._call(task, stage())
        self.used[slot] = manifest
        return manifest

    def do_built(self, task: Task[[StageCall], dict[str, str]], stage: Stage, file: str) -> Manifest:
        """As `do`, for a stage that is built already."""
        return self.do(task, lambda: stage, stage.slot, file)

    def folder(self, manifest: Manifest) -> Path:
        """The files of an object."""
        return self.store.folder(manifest)

    def close(self) -> None:
        """End what is open."""
        self.pipeline.live.close()

    def _earlier(self, slot: str, name: str, file: str) -> Manifest:
        teacher = self.config.teacher_from
        if teacher is None or name not in _FROM_TEACHER_RUN:
            return self.view.earlier(slot, file=file)
        source = RunView(self.store, teacher)
        if not source.folder.is_dir():
            raise MissingInputError(f"teacher_from: there is no run {teacher} at {source.folder}")
        manifest = source.earlier(slot, file=file)
        self.view.record(slot, manifest, reused=True)
        self._taken[slot] = manifest.path
        self.view.write_json(
            "teacher_source.json", {"run": teacher, "copied_at": now(), "objects": self._taken}
        )
        return manifest

    def _call(self, task: Task[[StageCall], dict[str, str]], stage: Stage) -> Manifest:
        refresh = stage.name in self.switches.refresh and stage.slot not in self.used
        sound = None if refresh else self.store.sound(stage.name, stage.key)
        log.info("%s: %s", stage.label, self._why(stage, sound, refresh=refresh))
        call = StageCall(self.store, stage, lambda: ArtifactProgress(stage.label), refresh=refresh)
        options: dict[str, Any] = {
            "task_run_name": stage.label.replace("{", "(").replace("}", ")"),
            "result_storage": self.store.root / "cache",
            "result_serializer": "json",
            "refresh_cache": sound is None,
        }
        task.with_options(**options)(call)
        manifest = sound or self.store.find(stage.name, stage.key)
        assert manifest is not None, f"stage {stage.label} ended without a manifest"
        self.view.record(stage.slot, manifest, reused=sound is not None)
        return manifest

    def _why(self, stage: Stage, sound: Manifest | None, *, refresh: bool) -> str:
        if sound is not None:
            return f"reuse (made {sound.created_at})"
        return "run: asked for by --refresh" if refresh else "run: " + why_run(self.view, stage)
