"""Writes what reinforcement leaves in rl_phase/: report, summary, ledger and pointer."""

from __future__ import annotations

import json

from core.evaluation.metrics import Metrics
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
    pointer, of = reporting.pointer_of(o), _reinforcement(o)
    content = {
        **pointer.to_json(),
        "phase": "rl",
        "start": of.start.to_json(),
        "best_val_macro_f1": _metrics_at(o, o.selection.step)["macro_f1"],
        "final_state_path": state_path(o.final),
    }
    plain = json.loads(json.dumps(content, allow_nan=False))
    reports = {f"runs/{o.run}/{name}" for name in (REPORT, page_of(o))}
    needed = [*reporting.needed(o, pointer), *reports]
    return pointers.publish(o.store, pointer_name(o.run), plain, needed, latest=LATEST)


def _result(o: Outcome) -> ReinforcementResult:
    """The result without what is only known once the reports are written: cost and failed parts."""
    of, chosen = _reinforcement(o), o.selection
    segments = [m.summary for m in o.trained]

    def total(name: str) -> int:
        return sum(summary[name] for summary in segments)

    return ReinforcementResult(
        start=ReinforcementStart.model_validate(of.start.to_json()),
        steps=max(o.checkpoints),
        steps_planned=of.planned,
        best_step=chosen.step,
        selection=SelectedStep(metric=chosen.metric, value=chosen.value, reason=chosen.reason),
        best_model_path=adapter_path(o.checkpoint, o.home) or reporting.UNTRAINED,
        final_model_path=adapter_path(o.final),
        final_state_path=state_path(o.final),
        val=ReinforcedVal(start=_metrics_at(o, 0), best=_metrics_at(o, chosen.step)),
        val_reward={str(step): m.summary["reward_mean"] for step, m in of.rewards.items()},
        rollouts=total("rollouts"),
        failed_rollouts=total("failed_rollouts"),
        groups=total("groups"),
        groups_skipped=total("groups_skipped"),
        steps_without_update=total("steps_without_update"),
        test={m.name: o.readings.metrics(m, "test") for m in o.modes if "test" in m.rows},
        compared=o.failures.attempt(Part.FACTS, "compared", lambda: _compared(o), dict),
    )


def _compared(o: Outcome) -> dict[str, Metrics]:
    return {s.name: o.readings.metrics(s, "test") for s in o.others if "test" in s.rows and not s.labels_only}


def _metrics_at(o: Outcome, step: int) -> Metrics:
    return next(point.metrics for point in o.curve if point.step == step)


def _reinforcement(o: Outcome) -> Reinforcement:
    assert o.reinforcement is not None, "only what learnt from rewards is reported here"
    return o.reinforcement
