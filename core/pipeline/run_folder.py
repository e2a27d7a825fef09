"""The two training phases of a run's folder, their histories, and the paths of checkpoints."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from core import jsonio
from core.evaluation.metrics import Metrics
from core.evaluation.threshold import rule
from core.export.adapter import FOLDER as ADAPTER
from core.jsonio import Record
from core.records import SplitName
from core.rejection.funnel import SUMMARY_FILE, TeacherSummary
from core.rl.rewards import RLSegmentSummary, RLStep, ValRewards
from core.rl.stages import ROLLOUTS, STEPS
from core.store import Manifest, RunView
from core.student.train_stage import STEPS_FILE, TrainStep
from core.tracking.trackers import Trackers, evaluation_point, reward_points, teacher_point, training_points


@dataclass(frozen=True, slots=True)
class Phase:
    """A training phase: its folder in the run's folder, and what distinguishes its stages and files."""

    folder: str
    report: str
    page: str
    summary: str
    ledger: str
    slot: str = ""
    """Begins the second part of its stages' slots: evaluate/rl/10."""
    prefix: str = ""
    """Begins labels and log lines."""


STUDENT = Phase("student_phase", "test_report.md", "report.html", "run_summary.json", "ledger.json")
"""Learning from the teacher's answers."""
RL = Phase(
    folder="rl_phase",
    report="rl_phase/rl_report.md",
    page="rl_phase/report.html",
    summary="rl_phase/rl_summary.json",
    ledger="rl_phase/ledger.json",
    slot="rl/",
    prefix="RL ",
)
"""Learning from rewards for own answers."""


def is_rl(slot: str) -> bool:
    """Whether a slot of a run's record is of the RL phase, which also measures the start, as rl-start."""
    stage, _, rest = slot.partition("/")
    return stage in ("reinforce", "reward") or rest.partition("/")[0] in ("rl", "rl-start")


class EvaluationRow(Record):
    """A checkpoint on val: a line of eval_history.jsonl and the content of metrics_val_step_<n>.json."""

    created_at: str
    discrete_metrics_source: str = f"threshold_{rule()}"
    checkpoint_path: str | None
    checkpoint_name: str
    step: int
    split: SplitName = "val"
    dataset_fingerprint: str
    config_fingerprint: str
    metrics: Metrics


class Histories:
    """Writes the histories of a phase into the run's folder, and sends them to its trackers.

    Single files are published as their stages declare. A history is written from the objects of this run
    alone, so that no lines of an earlier run remain.
    """

    def __init__(self, run: RunView, trackers: Trackers, phase: Phase = STUDENT) -> None:
        self.run, self.phase, self._trackers = run, phase, trackers
        self._rows: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
        """The rows of each file by step."""

    def teacher(self, rejected: Manifest) -> None:
        self._trackers.send([teacher_point(TeacherSummary.read(self.run.store.file(rejected, SUMMARY_FILE)))])

    def segment(self, stop: int, manifest: Manifest) -> None:
        """Add the rows of a segment, or replace them; `stop` is its last step."""
        store = self.run.store
        if self.phase is STUDENT:
            rows = list(jsonio.read_jsonl(store.file(manifest, STEPS_FILE)))
            self._trackers.send(training_points(map(TrainStep.model_validate, rows)))
            self._write("train_history.jsonl", stop, rows)
            return
        rows, rollouts = (list(jsonio.read_jsonl(store.file(manifest, f))) for f in (STEPS, ROLLOUTS))
        seconds = RLSegmentSummary.from_json(manifest.summary, manifest.path).seconds_by_step
        rows = [{**row, "seconds": s} for row, s in zip(rows, seconds, strict=True)]
        self._trackers.send(reward_points(map(RLStep.model_validate, rows)))
        self._write("rl_history.jsonl", stop, rows)
        self._write("rollouts.jsonl", stop, rollouts)

    def rewards(self, step: int, rewards: ValRewards) -> None:
        """Add a line to val_rewards.jsonl: what greedy answers on val earn."""
        self._write("val_rewards.jsonl", step, [{"step": step, **rewards.to_json()}])

    def evaluate(
        self, step: int, metrics: Metrics, measured: Manifest, checkpoint: Manifest | None, parts: Manifest
    ) -> None:
        """Write metrics_val_step_<n>.json and add a line to eval_history.jsonl."""
        row = EvaluationRow(
            created_at=measured.created_at,
            checkpoint_path=adapter_path(checkpoint),
            checkpoint_name=f"{self.run.name}_step_{step}",
            step=step,
            dataset_fingerprint=parts.digest,
            config_fingerprint=measured.key,
            metrics=metrics,
        )
        self.run.write_json(f"{self.phase.folder}/metrics_val_step_{step}.json", row.to_json())
        self._trackers.send([evaluation_point(step, metrics, "rl_val" if self.phase is RL else "val")])
        self._write("eval_history.jsonl", step, [row.to_json()])

    def _write(self, name: str, step: int, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a step to a file of JSON lines, in the order of steps, or replace them."""
        by_step = self._rows[name]
        by_step[step] = rows
        ordered = (row for _, rows in sorted(by_step.items()) for row in rows)
        lines = "".join(jsonio.canonical(row).decode() + "\n" for row in ordered)
        self.run.write(f"{self.phase.folder}/{name}", lines)


class _OnServer(Record):
    """What the summary of a segment contains if its checkpoint is on a server."""

    sampler_path: str | None = None
    state_path: str | None = None


def adapter_path(checkpoint: Manifest | None, home: Manifest | None = None) -> str | None:
    """Where a checkpoint's adapter is under the root; None for the untrained model.

    One on a server has its path there, unless it was downloaded.
    """
    if checkpoint is None:
        return None
    if home is not None:
        return f"{home.folder}/{ADAPTER}"
    remote = _OnServer.from_json(checkpoint.summary, checkpoint.path).sampler_path
    return remote or f"{checkpoint.folder}/{ADAPTER}"


def state_path(checkpoint: Manifest | None) -> str | None:
    """Where a checkpoint's resumable state is, under the root or on its server."""
    if checkpoint is None:
        return None
    return _OnServer.from_json(checkpoint.summary, checkpoint.path).state_path or checkpoint.folder
