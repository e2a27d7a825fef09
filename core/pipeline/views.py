"""Which file of which object stands where in a run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core import jsonio
from core.bundle.stage import FOLDER as BUNDLE
from core.evaluation.metrics import Metrics
from core.evaluation.threshold import RULE
from core.export.adapter import FOLDER as ADAPTER
from core.export.adapter import PARITY
from core.export.manifests import Fingerprints
from core.pipeline.phases import RL, STUDENT, Phase
from core.records import SPLITS, SplitName
from core.rejection.hard import HARD_FILE, tagged_file
from core.rejection.summary import TeacherSummary
from core.rl.segment import ROLLOUTS, STEPS
from core.store.manifest import Manifest
from core.store.runs import RunView
from core.tracking.points import (
    RewardStep,
    TrainStep,
    evaluation_point,
    reward_points,
    teacher_point,
    training_points,
)
from core.tracking.trackers import Trackers

_SPLIT = {**{f"{s}.csv": f"data_splits/{s}.csv" for s in SPLITS}, "split_summary.json": "split_summary.json"}
_SAMPLE = ("teacher_samples.jsonl", "rulebook.txt", "rule_files.json")
_LABELLED = (("teacher_samples", "jsonl"), ("sample_summary", "json"))
_REJECT = ("accepted_samples.jsonl", "rejected_samples.jsonl", HARD_FILE, "teacher_summary.json")
_REWARDED = ("reward_mean", "rewards", "rows", "failed_rows")
_ENCODE = ("train_sft.jsonl", "encode_summary.json")


class View:
    """Fills a run's folder from objects, whether they were made now or reused.

    Histories are put together anew from the objects of this run, so that nothing another run
    left is ever appended to.
    """

    def __init__(self, run: RunView, phase: Phase = STUDENT, trackers: Trackers | None = None) -> None:
        """`trackers` receive the curves as they are written."""
        self.run, self.phase, self._trackers = run, phase, trackers or Trackers()
        self._steps: dict[int, list[dict[str, Any]]] = {}
        self._rollouts: dict[int, list[dict[str, Any]]] = {}
        self._evaluations: dict[int, dict[str, Any]] = {}

    def split(self, manifest: Manifest) -> None:
        """data_splits/ and split_summary.json."""
        self.run.fill(manifest, _SPLIT)

    def sample(self, manifest: Manifest, split: SplitName = "train") -> None:
        """The teacher's answers and the rulebook it was shown; of another split than train, what it said
        and how that stands against gold: teacher_samples_<split>.jsonl, sample_summary_<split>.json."""
        places = {name: f"teacher_phase/{name}" for name in _SAMPLE}
        if split != "train":
            places = {f"{name}.{end}": f"teacher_phase/{name}_{split}.{end}" for name, end in _LABELLED}
        self.run.fill(manifest, places)

    def reject(self, manifest: Manifest) -> None:
        """What was accepted, what not, the funnel, and the texts that were hard."""
        marked = tagged_file("train")
        places = {name: f"teacher_phase/{name}" for name in _REJECT}
        self.run.fill(manifest, {**places, marked: f"data_splits/{marked}"})
        summary = jsonio.read_json(self.run.store.file(manifest, "teacher_summary.json"))
        self._trackers.send([teacher_point(TeacherSummary.model_validate(summary))])

    def hardness(self, manifest: Manifest, split: SplitName) -> None:
        """Of val and test, the texts that were hard: hard_examples_<split>.jsonl, and the marked split."""
        if split != "train":
            marked = tagged_file(split)
            listed = f"teacher_phase/{HARD_FILE.replace('.', f'_{split}.')}"
            self.run.fill(manifest, {HARD_FILE: listed, marked: f"data_splits/{marked}"})

    def encode(self, manifest: Manifest) -> None:
        """What the student learns."""
        self.run.fill(manifest, {name: f"student_phase/{name}" for name in _ENCODE})

    def train(self, stop: int, manifest: Manifest) -> None:
        """One more segment of student_phase/train_history.jsonl, or one anew; `stop` is its last step."""
        self._steps[stop] = list(jsonio.read_jsonl(self.run.store.file(manifest, "steps.jsonl")))
        self._trackers.send(training_points(map(TrainStep.model_validate, self._steps[stop])))
        rows = [row for stop in sorted(self._steps) for row in self._steps[stop]]
        self._lines("student_phase/train_history.jsonl", rows)

    def reinforce(self, stop: int, manifest: Manifest) -> None:
        """One more segment of rl_phase/rl_history.jsonl and rollouts.jsonl, or one anew."""
        history, kept = (
            list(jsonio.read_jsonl(self.run.store.file(manifest, name))) for name in (STEPS, ROLLOUTS)
        )
        seconds = manifest.summary["seconds_by_step"]
        self._steps[stop] = [{**row, "seconds": s} for row, s in zip(history, seconds, strict=True)]
        self._rollouts[stop] = kept
        self._trackers.send(reward_points(map(RewardStep.model_validate, self._steps[stop])))
        for name, segments in (("rl_history", self._steps), ("rollouts", self._rollouts)):
            rows = [row for stop in sorted(segments) for row in segments[stop]]
            self._lines(f"{self.phase.folder}/{name}.jsonl", rows)

    def rewards(self, manifests: Mapping[int, Manifest]) -> None:
        """rl_phase/val_rewards.jsonl: what greedy answers on val earn, by step."""
        rows = [
            {"step": step, **{name: manifests[step].summary[name] for name in _REWARDED}}
            for step in sorted(manifests)
        ]
        self._lines(f"{self.phase.folder}/val_rewards.jsonl", rows)

    def evaluate(self, step: int, row: Mapping[str, Any]) -> None:
        """metrics_val_step_<n>.json, and one more line of eval_history.jsonl."""
        self.run.write_json(f"{self.phase.folder}/metrics_val_step_{step}.json", row)
        self._evaluations[step] = dict(row)
        series = "rl_val" if self.phase is RL else "val"
        self._trackers.send([evaluation_point(step, Metrics.from_json(row["metrics"]), series)])
        rows = [self._evaluations[step] for step in sorted(self._evaluations)]
        self._lines(f"{self.phase.folder}/eval_history.jsonl", rows)

    def adapter(self, manifest: Manifest) -> None:
        """The adapter that was taken home, and how it compares with the server's."""
        names = (f"{ADAPTER}/adapter_config.json", f"{ADAPTER}/adapter_model.safetensors")
        places = {name: f"{self.phase.folder}/{name}" for name in names}
        self.run.fill(manifest, {**places, PARITY: f"{self.phase.folder}/adapter/parity.json"})

    def bundle(self, manifest: Manifest) -> None:
        """<phase>/bundle/, as it is handed to a deployment; what was there before goes."""
        self.run.clear(f"{self.phase.folder}/{BUNDLE}")
        self.run.fill(manifest, {name: f"{self.phase.folder}/{name}" for name in manifest.files})

    def _lines(self, place: str, rows: list[dict[str, Any]]) -> None:
        self.run.write(place, "".join(jsonio.canonical(row).decode() + "\n" for row in rows))


def evaluation_row(
    manifest: Manifest, checkpoint: Manifest | None, parts: Manifest, metrics: Metrics, step: int, run: str
) -> dict[str, Any]:
    """What is written of one checkpoint's evaluation, in the field names that users already read."""
    return {
        "created_at": manifest.created_at,
        "discrete_metrics_source": f"threshold_{RULE}",
        "checkpoint_path": adapter_path(checkpoint),
        "checkpoint_name": f"{run}_step_{step}",
        "step": step,
        "split": "val",
        "dataset_fingerprint": parts.digest,
        "config_fingerprint": manifest.key,
        "metrics": metrics.to_json(),
    }


def adapter_path(checkpoint: Manifest | None, home: Manifest | None = None) -> str | None:
    """Where a checkpoint's adapter lies under the root; None for the untrained model.

    One on a server has its path there, unless it was taken home.
    """
    if checkpoint is None:
        return None
    if home is not None:
        return f"{home.folder}/{ADAPTER}"
    remote: str | None = checkpoint.summary.get("sampler_path")
    return remote or f"{checkpoint.folder}/adapter"


def state_path(checkpoint: Manifest | None) -> str | None:
    """Where a checkpoint's resumable state lies, under the root or on its server."""
    if checkpoint is None:
        return None
    remote: str | None = checkpoint.summary.get("state_path")
    return remote or checkpoint.folder


def fingerprints(parts: Manifest, measured: Manifest) -> Fingerprints:
    """What the numbers depend on: the split's digest, and the key of the measurement."""
    return Fingerprints(dataset=parts.digest, config=measured.key)
