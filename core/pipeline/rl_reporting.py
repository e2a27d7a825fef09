"""Writes what reinforcement leaves in rl_phase/: report, summary, ledger and pointer."""

from __future__ import annotations

from core.evaluation.metrics import Metrics, value
from core.export.pointer import ReinforcedPointer
from core.optional import Part
from core.pipeline import facts, reporting
from core.pipeline.outcome import Outcome, Reinforcement
from core.pipeline.phases import RL
from core.pipeline.run_folder import adapter_path, state_path
from core.results import (
    RL_SUMMARY,
    ReinforcedVal,
    ReinforcementResult,
    ReinforcementStart,
    SelectedStep,
)
from core.rl.history import RLSegmentSummary, ValRewards
from core.store import pointers
from core.store.runs import RunView

REPORT = f"{RL.folder}/rl_report.md"
PAGE = f"{RL.folder}/report.html"
LATEST = "rl_latest"


def pointer_name(run: str) -> str:
    """What a run's reinforced student is published as, beside the run's own."""
    return f"{run}-rl"


def write_report(o: Outcome, view: RunView) -> str:
    """rl_report.md, report.html, the curve, ledger.json and rl_summary.json; returns where the page is."""
    data, result = facts.report_of(o), _result(o)
    reporting.save_curve(data, view, f"{RL.folder}/learning_curve.png", o.failures)
    reporting.write_documents(data, view, PAGE, REPORT, o.failures)
    ledger = reporting.write_ledger(data, view, f"{RL.folder}/ledger.json", o.failures)
    last = {"ledger": ledger, "failed_parts": tuple(o.failures)}
    view.write_json(RL_SUMMARY, result.model_copy(update=last).to_json())
    return view.where(page_of(o))


def page_of(o: Outcome) -> str:
    """The report to look at: the page, or where it could not be written the Markdown."""
    return REPORT if Part.PAGE in o.failures else PAGE


def publish(o: Outcome, view: RunView) -> list[str]:
    """model/<run>-rl.json and model/rl_latest.json, after everything they name exists."""
    pointer = ReinforcedPointer(
        **dict(reporting.pointer_of(o)),
        start=_start(o),
        best_val_macro_f1=value(_metrics_at(o, o.selection.step), "macro_f1"),
        final_state_path=state_path(o.final),
    )
    reports = {f"runs/{o.run}/{name}" for name in (REPORT, page_of(o))}
    needed = [*reporting.needed(o, pointer), *reports]
    return pointers.publish(o.store, pointer_name(o.run), pointer.to_json(), needed, latest=LATEST)


def _result(o: Outcome) -> ReinforcementResult:
    """The result without what is only known once the reports are written: cost and failed parts."""
    of, chosen = _reinforcement(o), o.selection
    segments = [RLSegmentSummary.from_json(m.summary, m.path) for m in o.trained]
    return ReinforcementResult(
        start=_start(o),
        steps=max(o.checkpoints),
        steps_planned=of.planned,
        best_step=chosen.step,
        selection=SelectedStep(metric=chosen.metric, value=chosen.value, reason=chosen.reason),
        best_model_path=adapter_path(o.checkpoint, o.home) or reporting.UNTRAINED,
        final_model_path=adapter_path(o.final),
        final_state_path=state_path(o.final),
        val=ReinforcedVal(start=_metrics_at(o, 0), best=_metrics_at(o, chosen.step)),
        val_reward={
            str(step): ValRewards.from_json(m.summary, m.path).reward_mean for step, m in of.rewards.items()
        },
        rollouts=sum(s.rollouts for s in segments),
        failed_rollouts=sum(s.failed_rollouts for s in segments),
        groups=sum(s.groups for s in segments),
        groups_skipped=sum(s.groups_skipped for s in segments),
        steps_without_update=sum(s.steps_without_update for s in segments),
        test={m.name: o.readings.metrics(m, "test") for m in o.modes if "test" in m.rows},
        compared=o.failures.attempt(Part.FACTS, "compared", lambda: _compared(o), dict),
    )


def _start(o: Outcome) -> ReinforcementStart:
    start = _reinforcement(o).start
    digest = None if start.checkpoint is None else start.checkpoint.digest
    return ReinforcementStart(run=start.run, step=start.step, checkpoint_digest=digest)


def _compared(o: Outcome) -> dict[str, Metrics]:
    return {s.name: o.readings.metrics(s, "test") for s in o.others if "test" in s.rows and not s.labels_only}


def _metrics_at(o: Outcome, step: int) -> Metrics:
    return next(point.metrics for point in o.curve if point.step == step)


def _reinforcement(o: Outcome) -> Reinforcement:
    assert o.reinforcement is not None, "only a student that learned from rewards is reported here"
    return o.reinforcement
