"""How the student was trained: the learning curve on val, learning from rewards, and other seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, mean, stdev

from core.evaluation.analysis import ProbabilityAnalysis
from core.evaluation.metrics import value
from core.report.data import Reinforced, ReportData, SeedResult
from core.report.document import Block, Cell, Prose, Section, Table, cells, section
from core.report.plots.curve import learning_curve
from core.report.text import name_of, number, plural, signed
from core.rl.history import RLStep

CURVE: Mapping[str, str] = {
    "macro-F1": "macro_f1",
    "AUROC": "auroc",
    "AUPRC": "auprc",
    "balanced accuracy": "balanced_accuracy",
    "log loss": "log_loss",
    "Brier": "brier",
    "without a label": "invalid_label_rate",
    "threshold": "decision_threshold",
}
MEASURED = ("macro_f1", "auroc", "accuracy", "precision", "recall", "log_loss", "brier")
_SPREAD: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": mean,
    "standard deviation": stdev,
    "smallest": min,
    "largest": max,
}
_REWARDS: Mapping[str, str] = {
    "label": "label is right",
    "format": "in the target's form",
    "cites_rule": "cites rules that exist",
    "faithful_quote": "quotes the text literally",
    "length": "within the length",
}
_BY_STEP: Mapping[str, Callable[[RLStep], float | None]] = {
    "reward": lambda step: step.reward_mean,
    "labels right": lambda step: step.batch_acc,
    "no label": lambda step: step.invalid_rate,
    "tokens": lambda step: step.answer_tokens,
    "drift": lambda step: step.kl_logprob_diff_mean,
}


@section("training", order=100)
def curve(data: ReportData) -> Section | None:
    """Val by step, the chosen step in bold; None before anything was measured."""
    if not data.curve:
        return None
    start = "the untrained model" if data.reinforced is None else data.reinforced.start
    intro = (
        f"Step 0 is {start}. Each row has its own threshold, chosen on the same rows: the curve is for "
        f"choosing a step, the table of {data.split} is the result."
    )
    has_loss = data.reinforced is None
    rows = []
    for p in data.curve:
        loss = cells(number(p.train_loss)) if has_loss else []
        values = cells(*(number(value(p.metrics, name)) for name in CURVE.values()))
        rows.append([Cell(str(p.step)), *loss, *values])
    chosen = frozenset(i for i, p in enumerate(data.curve) if p.step == data.selection.step)
    table = Table(["step", *(["train loss"] if has_loss else []), *CURVE], rows, left=0, strong=chosen)
    picture = learning_curve(data)
    return Section("curve", "Learning curve on val", [Prose(intro), *([picture] if picture else []), table])


@section("reinforcement", order=110)
def reinforcement(data: ReportData) -> Section | None:
    """What the student learned from rewards, by step and by reward; None without rewards."""
    of = data.reinforced
    if of is None:
        return None
    blocks: list[Block] = [Prose(_steps(of)), *_warnings(of.history), _by_steps(data, of), _by_name(data, of)]
    return Section("reinforcement", "Learning from rewards", blocks)


def _steps(of: Reinforced) -> str:
    groups, skipped = sum(s.n_groups for s in of.history), sum(s.groups_skipped for s in of.history)
    answers = sum(s.n_rollouts for s in of.history)
    early = "" if len(of.history) == of.planned else f" of {of.planned:,} planned"
    return (
        f"It started from {of.start} and took {len(of.history):,} steps{early}: {answers:,} answers in "
        f"{plural(groups, 'group')}; {skipped:,} of them were skipped, because all answers in them earned "
        "the same."
    )


def _warnings(history: Sequence[RLStep]) -> list[Prose]:
    """Answers that failed, and steps that changed nothing."""
    out = []
    if failed := sum(s.failed_rollouts for s in history):
        text = f"{plural(failed, 'answer')} failed on the server and were neither rewarded nor learned from."
        out.append(Prose(text, warning=True))
    if idle := sum(not s.updates for s in history):
        text = f"{plural(idle, 'step')} changed nothing: in no group did rewards differ."
        out.append(Prose(text, warning=True))
    return out


def _by_steps(data: ReportData, of: Reinforced) -> Table:
    rows, before, steps = [], 0, sorted(of.val_rewards)
    for step in steps:
        since = [s for s in of.history if before < s.step <= step]
        sampled = [number(_mean([read(s) for s in since])) for read in _BY_STEP.values()]
        rows.append(cells(str(step), *sampled, number(of.val_rewards[step].reward_mean)))
        before = step
    note = (
        "Sampled answers to train texts, mean over the steps since the previous row; on val, greedy answers. "
        "drift: by how many nats a token is likelier than at the start, if reinforce.kl is set."
    )
    chosen = frozenset(i for i, step in enumerate(steps) if step == data.selection.step)
    return Table(["step", *_BY_STEP, "reward on val"], rows, left=0, strong=chosen, notes=[note])


def _mean(values: Sequence[float | None]) -> float | None:
    found = [v for v in values if v is not None]
    return fmean(found) if found else None


def _by_name(data: ReportData, of: Reinforced) -> Table:
    """Each reward on the same rows of val, at the start and at the chosen step."""
    step = data.selection.step
    start, chosen = of.val_rewards[0], of.val_rewards[step]
    rows = []
    for name, weight in of.weights.items():
        before, after = start.rewards.get(name), chosen.rewards.get(name)
        change = signed(None if before is None or after is None else after - before)
        title = _REWARDS.get(name, name.replace("_", " "))
        rows.append(cells(title, f"{weight:g}", number(before), number(after), change))
    note = f"Greedy answers to {plural(chosen.rows, 'row')} of val; no step was chosen by them."
    failed = f" {plural(chosen.failed_rows, 'answer')} failed." if chosen.failed_rows else ""
    columns = ["reward", "weight", "at the start", f"step {step}", "difference"]
    return Table(columns, rows, title="Rewards on val", notes=[note + failed])


@section("seeds", order=120)
def seeds(data: ReportData) -> Section | None:
    """Each seed and their spread; None if there is one seed."""
    if not data.seeds:
        return None
    runs = [*own_seed(data), *data.seeds]
    intro = (
        f"The student of {len(runs)} seeds on the same rows of {data.split}, each at the threshold that its "
        "own val chose. Intervals elsewhere are about the rows; this spread is about training."
    )
    rows = [
        [Cell(r.run, code=True), *cells(str(r.seed), *(number(value(r.metrics, m)) for m in MEASURED))]
        for r in runs
    ]
    for name, of in _SPREAD.items():
        rows.append(cells(name, "", *(number(_spread(runs, m, of)) for m in MEASURED)))
    strong = frozenset({0, len(runs)})
    table = Table(["run", "seed", *map(name_of, MEASURED)], rows, strong=strong)
    return Section("seeds", "Other seeds", [Prose(intro), table])


def own_seed(data: ReportData) -> list[SeedResult]:
    """Return this run among its seeds."""
    student = data.analysis.first
    if not isinstance(student, ProbabilityAnalysis):
        return []
    return [SeedResult(data.run_name, data.setup.seed, student.metrics)]


def _spread(runs: Sequence[SeedResult], metric: str, of: Callable[[Sequence[float]], float]) -> float | None:
    """None if a seed lacks the metric: a spread of some of them would be another number."""
    found = [value(r.metrics, metric) for r in runs]
    defined = [v for v in found if v is not None]
    return of(defined) if len(defined) == len(found) else None
