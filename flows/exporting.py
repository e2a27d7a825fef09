"""What a run measures at its end, with checkpoint and thresholds frozen: the only reading of test."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from core.pipeline.views import View
from core.records import SplitName
from core.store.manifest import Manifest
from flows.execution import Execution
from flows.walking import Trained, Walk, metrics_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """Manifests of what was measured, by split; empty where a mode is switched off."""

    step: int
    checkpoint: Manifest | None
    reasoning: dict[SplitName, Manifest]
    label_only: dict[SplitName, Manifest]
    untrained: dict[SplitName, Manifest]
    baseline: Manifest | None


def export_checkpoint(
    run: Walk, parts: Manifest, trained: Trained, step: int, *, who: str = "student", beside: bool = True
) -> Exported:
    """Measure one checkpoint on the configured splits; `beside` adds the untrained and the baselines."""
    checkpoint = trained.checkpoints.get(step)
    config = run.config.export
    reasoning: dict[SplitName, Manifest] = {}
    label_only: dict[SplitName, Manifest] = {}
    if config.reasoning:
        scored = _scored_val(run, trained, step)
        reasoning = _mode(run, parts, checkpoint, who, label_only=False, scored=scored)
    if config.label_only:
        same = reasoning if run.pipeline.measuring.label_only_is_the_same else {}
        label_only = _mode(run, parts, checkpoint, who, label_only=True, scored=same)
    untrained = _untrained(run, parts, trained) if beside and config.reasoning else {}
    base = None
    if beside:
        stage = run.pipeline.measuring.baseline(parts)
        base = run.do_built(stage, "baseline_phase/baselines.json")
    return Exported(step, checkpoint, reasoning, label_only, untrained, base)


def take_home(run: Execution, view: View, parts: Manifest, checkpoint: Manifest | None) -> Manifest | None:
    """The adapter of a checkpoint that lies on a server, in the run's folder; None for all others."""
    if checkpoint is None or not run.pipeline.is_remote:
        return None
    stage = run.pipeline.measuring.adapter(parts, checkpoint)
    manifest = run.do_built(stage, "student_phase/adapter/adapter_model.safetensors")
    view.adapter(manifest)
    found = manifest.summary["parity"]
    if found["checked"]:
        log.info(
            "the adapter at home scores %d rows as on the server, within %.2g nats",
            found["rows"],
            found["largest"],
        )
    return manifest


def _scored_val(run: Walk, trained: Trained, step: int) -> dict[SplitName, Manifest]:
    """The checkpoint's evaluation, which need not be made twice if it was of all rows."""
    manifest = trained.evaluations.get(step)
    whole = run.config.evaluation.max_examples == 0
    return {"val": manifest} if manifest is not None and whole else {}


def _mode(
    run: Walk,
    parts: Manifest,
    checkpoint: Manifest | None,
    who: str,
    *,
    label_only: bool,
    scored: Mapping[SplitName, Manifest],
) -> dict[SplitName, Manifest]:
    """Val first, since the threshold comes from it; then the other splits at that threshold.

    `scored` are splits whose rows were scored before in the same way.
    """
    out: dict[SplitName, Manifest] = {}
    threshold: float | None = None
    names: list[SplitName] = ["val", *(n for n in run.config.export.splits if n != "val")]
    for name in names:
        out[name] = _one(
            run,
            parts,
            checkpoint,
            name,
            who,
            label_only=label_only,
            threshold=threshold,
            scored=scored.get(name),
        )
        threshold = metrics_of(run, out["val"]).decision_threshold
    return out


def _untrained(run: Walk, parts: Manifest, trained: Trained) -> dict[SplitName, Manifest]:
    """The untrained model on val and test, at its own threshold from val."""
    val = trained.evaluations[0]
    out: dict[SplitName, Manifest] = {"val": val}
    if "test" in run.config.export.splits:
        threshold = metrics_of(run, val).decision_threshold
        out["test"] = _one(run, parts, None, "test", "untrained", label_only=False, threshold=threshold)
    return out


def _one(
    run: Walk,
    parts: Manifest,
    checkpoint: Manifest | None,
    name: SplitName,
    who: str,
    *,
    label_only: bool,
    threshold: float | None,
    scored: Manifest | None = None,
) -> Manifest:
    stage = run.pipeline.measuring.export(
        parts, checkpoint, name, label_only=label_only, threshold=threshold, scored=scored, who=who
    )
    return run.do_built(stage, f"student_phase/metrics_{name}.json")
