"""Histories in the run's folder, which several objects add to, and paths of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core import jsonio
from core.evaluation.metrics import Metrics
from core.evaluation.threshold import rule
from core.export.adapter import FOLDER as ADAPTER
from core.export.manifests import Fingerprints
from core.pipeline.phases import RL, STUDENT, Phase
from core.rejection.files import SUMMARY_FILE, TeacherSummary
from core.rl.history import RLStep
from core.rl.segment import ROLLOUTS, STEPS
from core.store.manifest import Manifest
from core.store.runs import RunView
from core.student.segment import TrainStep
from core.tracking.points import (
    evaluation_point,
    reward_points,
    teacher_point,
    training_points,
)
from core.tracking.trackers import Trackers

_REWARDED = ("reward_mean", "rewards", "rows", "failed_rows")


class RunFolder:
    """Writes the histories of a run, and reports them to its trackers.

    Single files are published as their stages declare. A history is written from the objects of this run
    alone, so that no lines of an earlier run remain.
    """

    def __init__(self, run: RunView, phase: Phase = STUDENT, trackers: Trackers | None = None) -> None:
        """Histories of `phase` are in its folder."""
        self.run, self.phase, self._trackers = run, phase, trackers or Trackers()
        self._steps: dict[int, list[dict[str, Any]]] = {}
        self._rollouts: dict[int, list[dict[str, Any]]] = {}
        self._evaluations: dict[int, dict[str, Any]] = {}

    def teacher(self, rejected: Manifest) -> None:
        """Report the funnel to the trackers."""
        summary = jsonio.read_json(self.run.store.file(rejected, SUMMARY_FILE))
        self._trackers.send([teacher_point(TeacherSummary.model_validate(summary))])

    def train(self, stop: int, manifest: Manifest) -> None:
        """Add a segment to train_history.jsonl, or replace it; `stop` is its last step."""
        self._steps[stop] = list(jsonio.read_jsonl(self.run.store.file(manifest, "steps.jsonl")))
        self._trackers.send(training_points(map(TrainStep.model_validate, self._steps[stop])))
        rows = [row for stop in sorted(self._steps) for row in self._steps[stop]]
        self._lines(f"{self.phase.folder}/train_history.jsonl", rows)

    def reinforce(self, stop: int, manifest: Manifest) -> None:
        """Add a segment to rl_history.jsonl and rollouts.jsonl, or replace it."""
        history, kept = (
            list(jsonio.read_jsonl(self.run.store.file(manifest, name))) for name in (STEPS, ROLLOUTS)
        )
        seconds = manifest.summary["seconds_by_step"]
        self._steps[stop] = [{**row, "seconds": s} for row, s in zip(history, seconds, strict=True)]
        self._rollouts[stop] = kept
        self._trackers.send(reward_points(map(RLStep.model_validate, self._steps[stop])))
        for name, segments in (("rl_history", self._steps), ("rollouts", self._rollouts)):
            rows = [row for stop in sorted(segments) for row in segments[stop]]
            self._lines(f"{self.phase.folder}/{name}.jsonl", rows)

    def rewards(self, manifests: Mapping[int, Manifest]) -> None:
        """Write val_rewards.jsonl: what greedy answers on val earn, by step."""
        rows = [
            {"step": step, **{name: manifests[step].summary[name] for name in _REWARDED}}
            for step in sorted(manifests)
        ]
        self._lines(f"{self.phase.folder}/val_rewards.jsonl", rows)

    def evaluate(self, step: int, row: Mapping[str, Any]) -> None:
        """Write metrics_val_step_<n>.json and add a line to eval_history.jsonl."""
        self.run.write_json(f"{self.phase.folder}/metrics_val_step_{step}.json", row)
        self._evaluations[step] = dict(row)
        series = "rl_val" if self.phase is RL else "val"
        self._trackers.send([evaluation_point(step, Metrics.from_json(row["metrics"]), series)])
        rows = [self._evaluations[step] for step in sorted(self._evaluations)]
        self._lines(f"{self.phase.folder}/eval_history.jsonl", rows)

    def _lines(self, place: str, rows: list[dict[str, Any]]) -> None:
        self.run.write(place, "".join(jsonio.canonical(row).decode() + "\n" for row in rows))


def evaluation_row(
    manifest: Manifest, checkpoint: Manifest | None, parts: Manifest, metrics: Metrics, step: int, run: str
) -> dict[str, Any]:
    """What is written of one checkpoint's evaluation, in the field names that users already read."""
    return {
        "created_at": manifest.created_at,
        "discrete_metrics_source": f"threshold_{rule()}",
        "checkpoint_path": adapter_path(checkpoint),
        "checkpoint_name": f"{run}_step_{step}",
        "step": step,
        "split": "val",
        "dataset_fingerprint": parts.digest,
        "config_fingerprint": manifest.key,
        "metrics": metrics.to_json(),
    }


def adapter_path(checkpoint: Manifest | None, home: Manifest | None = None) -> str | None:
    """Where a checkpoint's adapter is under the root; None for the untrained model.

    One on a server has its path there, unless it was downloaded.
    """
    if checkpoint is None:
        return None
    if home is not None:
        return f"{home.folder}/{ADAPTER}"
    remote: str | None = checkpoint.summary.get("sampler_path")
    return remote or f"{checkpoint.folder}/adapter"


def state_path(checkpoint: Manifest | None) -> str | None:
    """Where a checkpoint's resumable state is, under the root or on its server."""
    if checkpoint is None:
        return None
    remote: str | None = checkpoint.summary.get("state_path")
    return remote or checkpoint.folder


def fingerprints(parts: Manifest, measured: Manifest) -> Fingerprints:
    """What the numbers depend on: the split's digest, and the key of the measurement."""
    return Fingerprints(dataset=parts.digest, config=measured.key)
