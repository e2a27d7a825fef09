"""Sections on the run: what the student learned from and how, the setup, the data, costs and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, mean, stdev

from core.evaluation.metrics import Counts, macro_f1
from core.evaluation.threshold import describe
from core.intervals import proportion
from core.rejection.funnel import TeacherSummary
from core.report import plots
from core.report.document import (
    UNDEFINED,
    BaselineData,
    Block,
    Bullets,
    Cell,
    Facts,
    Prose,
    Reinforced,
    ReportData,
    Section,
    SeedResult,
    Table,
    cells,
    section,
)
from core.report.render import (
    GOLD_LABELS,
    count,
    name_of,
    number,
    plural,
    sentence,
    signed,
    span,
    with_interval,
)
from core.results import CostEstimate, Ledger
from core.rl.rewards import RLStep
from core.student.encode_stage import EncodeSummary
from core.teacher.samples import FirstAnswers

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
_RATIONALES: Mapping[str, str] = {
    "own": "each text's own",
    "shuffled": "those of other texts of the same label, as a control",
    "none": "none: labels alone",
}
_IN_BLOCKS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "F1", "mcc", "precision", "recall", "auroc", "auprc"),
    *("log_loss", "brier", "invalid_label_rate", "decision_threshold"),
)
"""The metrics of a model's block, by their names in files."""
_LEARNED_FROM: Mapping[str, str] = {"gold": "from the labels", "none": "from rewards"}


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
    has_loss, rows, before = data.reinforced is None, [], 0
    for step, metrics in data.curve.items():
        # The mean of the steps since the previous row.
        since = [value for at, value in data.losses if before < at <= step]
        loss = [number(fmean(since) if since else None)] if has_loss else []
        rows.append(cells(str(step), *loss, *(number(metrics[name]) for name in CURVE.values())))
        before = step
    chosen = frozenset(i for i, step in enumerate(data.curve) if step == data.selection.step)
    table = Table(["step", *(["train loss"] if has_loss else []), *CURVE], rows, left=0, strong=chosen)
    picture = plots.learning_curve(data)
    return Section("curve", "Learning curve on val", [Prose(intro), *([picture] if picture else []), table])


@section("reinforcement", order=110)
def reinforcement(data: ReportData) -> Section | None:
    """What the student learned from rewards, by step and by reward; None without rewards."""
    of = data.reinforced
    if of is None:
        return None
    groups, skipped = sum(s.n_groups for s in of.history), sum(s.groups_skipped for s in of.history)
    answers = sum(s.n_rollouts for s in of.history)
    early = "" if len(of.history) == of.planned else f" of {of.planned:,} planned"
    intro = (
        f"It started from {of.start} and took {len(of.history):,} steps{early}: {answers:,} answers in "
        f"{plural(groups, 'group')}; {skipped:,} of them were skipped, because all answers in them earned "
        "the same."
    )
    blocks: list[Block] = [Prose(intro)]
    if failed := sum(s.failed_rollouts for s in of.history):
        text = f"{plural(failed, 'answer')} failed on the server and were neither rewarded nor learned from."
        blocks.append(Prose(text, warning=True))
    if idle := sum(not s.updates for s in of.history):
        text = f"{plural(idle, 'step')} changed nothing: in no group did rewards differ."
        blocks.append(Prose(text, warning=True))
    blocks += _reward_tables(of, data.config.reinforce.rewards, data.selection.step)
    return Section("reinforcement", "Learning from rewards", blocks)


def _reward_tables(of: Reinforced, weights: Mapping[str, float], selected: int) -> list[Table]:
    """Rewards by step, and each reward on the same rows of val, at the start and at the selected step."""
    rows, before, steps = [], 0, sorted(of.val_rewards)
    for step in steps:
        since = [s for s in of.history if before < s.step <= step]
        sampled = [[v for s in since if (v := read(s)) is not None] for read in _BY_STEP.values()]
        means = [number(fmean(values) if values else None) for values in sampled]
        rows.append(cells(str(step), *means, number(of.val_rewards[step].reward_mean)))
        before = step
    note = (
        "Sampled answers to train texts, mean over the steps since the previous row; on val, greedy answers. "
        "drift: by how many nats a token is likelier than at the start, if reinforce.kl is set."
    )
    strong = frozenset(i for i, step in enumerate(steps) if step == selected)
    by_step = Table(["step", *_BY_STEP, "reward on val"], rows, left=0, strong=strong, notes=[note])
    start, chosen, rows = of.val_rewards[0], of.val_rewards[selected], []
    for name, weight in weights.items():
        first, last = start.rewards.get(name), chosen.rewards.get(name)
        change = signed(None if first is None or last is None else last - first)
        title = _REWARDS.get(name, name.replace("_", " "))
        rows.append(cells(title, f"{weight:g}", number(first), number(last), change))
    note = f"Greedy answers to {plural(chosen.rows, 'row')} of val; no step was chosen by them."
    failed = f" {plural(chosen.failed_rows, 'answer')} failed." if chosen.failed_rows else ""
    columns = ["reward", "weight", "at the start", f"step {selected}", "difference"]
    return [by_step, Table(columns, rows, title="Rewards on val", notes=[note + failed])]


@section("seeds", order=120)
def seeds(data: ReportData) -> Section | None:
    """Each seed and their spread; None if there is one seed."""
    if not data.seeds:
        return None
    own = SeedResult(data.run_name, data.config.training_seed, data.student.metrics)
    runs = [own, *data.seeds]
    intro = (
        f"The student of {len(runs)} seeds on the same rows of {data.split}, each at the threshold that its "
        "own val chose. Intervals elsewhere are about the rows; this spread is about training."
    )
    by_metric = {m: [r.metrics[m] for r in runs] for m in MEASURED}
    rows = [
        [Cell(r.run, code=True), *cells(str(r.seed), *(number(by_metric[m][i]) for m in MEASURED))]
        for i, r in enumerate(runs)
    ]
    for name, of in _SPREAD.items():
        # Undefined if a seed lacks the metric: a spread of some of them would be another number.
        spreads = [None if None in v else of([x for x in v if x is not None]) for v in by_metric.values()]
        rows.append(cells(name, "", *map(number, spreads)))
    strong = frozenset({0, len(runs)})
    table = Table(["run", "seed", *map(name_of, MEASURED)], rows, strong=strong)
    return Section("seeds", "Other seeds", [Prose(intro), table])


@section("teacher", order=200)
def teacher(data: ReportData | BaselineData) -> Section | None:
    """The funnel from train texts to accepted answers; before training, only the teacher's first answers.

    None without a teacher.
    """
    if isinstance(data, BaselineData):
        blocks = _first_answers(data.first_answers)
        return Section("teacher", "The teacher on train", blocks) if blocks else None
    t = data.teacher
    if t is None:
        return None
    texts, missing = t.funnel.texts, t.funnel.missing
    intro = "No teacher was asked: the student learns the gold labels."
    if not t.is_gold:
        intro = f"The teacher: {t.teacher_model} ({t.teacher_kind})."
    d = texts.difference
    if d.value is None or d.low is None or d.high is None:
        intro += f" How acceptance differs between gold labels is undefined: {d.undefined}."
    else:
        beyond_chance = "" if d.low <= 0 <= d.high else ", which chance hardly explains"
        intro += (
            f" The accepted share of positives minus that of negatives is {signed(d.value)} (95 % interval "
            f"{span(d.low, d.high, sign=True)}){beyond_chance}."
        )
    by = {code: texts.by_label[code] for code in GOLD_LABELS}
    lines = [("Train texts", [by[k].total + missing[k] for k in by])]
    if any(missing.values()):
        lines.append(("without an answer", [missing[k] for k in by]))
    lines += [(f"rejected: {why}", [counts[k] for k in by]) for why, counts in texts.by_reason.items()]
    lines.append(("Accepted", [by[k].count for k in by]))
    rows = [cells(name, *(f"{n:,}" for n in (*counts, sum(counts)))) for name, counts in lines]
    shares = [Cell(number(s.rate), span(s.low, s.high)) for s in by.values()]
    whole = with_interval(proportion(texts.accepted, texts.total))
    rows.append([Cell("Share accepted of the answered"), *shares, whole])
    blocks = [
        Prose(intro),
        *([Prose(sentence(t.skew.said), warning=True)] if t.skew is not None else []),
        plots.funnel(texts, missing),
        Table(["", *GOLD_LABELS.values(), "all"], rows),
        *([] if t.is_gold else _first_answers(t.first_answers)),
    ]
    return Section("teacher", "From train texts to accepted answers", blocks)


def skewed(t: TeacherSummary | None) -> str | None:
    """Return how rejection takes more of one class, and the remedy; None if it does not."""
    return None if t is None or t.skew is None else t.skew.said


def dropped(encoded: EncodeSummary) -> str | None:
    """Return how many accepted answers were not trained on, and why; None if all were."""
    lost = encoded.dropped
    if not lost:
        return None
    accepted = plural(lost + encoded.examples, "accepted answer")
    return f"{lost:,} of {accepted} {'was' if lost == 1 else 'were'} not trained on: {encoded.dropped_reason}"


def _first_answers(first: FirstAnswers | None) -> list[Block]:
    if first is None:
        return []
    tp, fp, fn, tn = first.tp, first.fp, first.fn, first.tn
    whole = tp + fp + fn + tn + first.unread
    f1 = float(macro_f1(Counts.of(tp, fp, tp + fn, fp + tn)))
    row = [
        *cells("first answers on train", f"{whole:,}"),
        with_interval(proportion(tp + tn, whole)),
        Cell(UNDEFINED if f1 != f1 else number(f1)),
        with_interval(proportion(tp, tp + fp)),
        with_interval(proportion(tp, tp + fn)),
        Cell(f"{first.unread:,}"),
    ]
    columns = ["", "texts", "accuracy", "macro-F1", "precision", "recall", "unreadable"]
    text = (
        "How right the teacher is by itself: its first answer to each train text, before anything was chosen "
        "by gold. This is another split than the table of scorers, so it shows roughly how good a student "
        "can get, and not which is better. An unreadable answer is wrong in accuracy and in no other number."
    )
    return [Prose(text), Table(columns, [row], title="The teacher against gold")]


@section("setup", order=250)
def setup(data: ReportData) -> Section:
    """The configuration in a few lines."""
    student, evaluation = data.config.student, data.config.evaluation
    teacher = "none" if data.teacher is None else data.teacher.teacher_model
    rationales = "none" if student.target == "label_only" else student.rationales
    learned = _LEARNED_FROM.get(teacher, "from the teacher's answers (context distillation)")
    without_rules = f"no: what the rules ask has to be learned {learned}"
    rows = [
        [Cell("Run"), Cell(data.run_name, code=True)],
        [Cell("Base model"), Cell(student.model, code=True)],
        cells("Engine", student.engine.kind),
        cells("Target", student.target),
        cells("Rulebook in the student's prompt", "yes" if student.rulebook else without_rules),
        cells("Rationales that are learned", _RATIONALES[rationales]),
        cells("Teacher", teacher),
        cells("Seed", str(data.config.training_seed)),
        cells("Rows", ", ".join(f"{size.rows:,} {name}" for name, size in data.sizes.items())),
        cells("Chosen step", str(data.selection.step)),
        cells("Calibration", evaluation.calibration.method),
        cells("Threshold", describe(evaluation.threshold)),
    ]
    return Section("setup", "What was run", [Table(["", ""], rows, left=2)])


@section("data", order=260)
def rows(data: ReportData) -> Section:
    """Rows and positives of each split, and what became of rows that are in none."""
    sizes = [
        cells(name, f"{s.rows:,}", f"{s.positive:,}", number(s.positive / s.rows if s.rows else None))
        for name, s in data.sizes.items()
    ]
    blocks: list[Block] = [Table(["split", "rows", "positive", "share"], sizes)]
    shown_with_the_funnel = skewed(data.teacher)
    if notices := [sentence(notice) for notice in data.notices if notice != shown_with_the_funnel]:
        blocks.append(Bullets(notices))
    return Section("data", "Data", blocks)


@section("costs", order=400)
def costs(data: ReportData) -> Section | None:
    """Money, tokens, and seconds by stage; None without a ledger."""
    ledger = data.ledger
    if ledger is None:
        return None
    text = "Tokens are counted, money is not: nothing was paid for, or no price was known."
    if ledger.usd is not None:
        text = f"The run cost US$ {ledger.usd:.2f}."
    text += " Stages that were reused count with the seconds and the money they took when they were made."
    blocks: list[Block] = [Prose(text), _token_table(ledger, data.estimate)]
    if ledger.seconds:
        whole = ledger.total_seconds
        seconds = [
            cells(stage, f"{s:,.1f}", f"{s / whole:.1%}" if whole else UNDEFINED)
            for stage, s in ledger.seconds.items()
        ]
        seconds.append(cells("all", f"{whole:,.1f}", ""))
        last = frozenset({len(seconds) - 1})
        blocks.append(Table(["stage", "seconds", "share"], seconds, strong=last))
    return Section("cost", "Cost and time", blocks)


def _token_table(ledger: Ledger, estimate: CostEstimate | None) -> Table:
    table, notes = [], []
    if (t := ledger.teacher) is not None:
        prompts = (t.prompt_tokens_of_the_run, t.cached_tokens_of_the_run, t.completion_tokens_of_the_run)
        table.append(_used("teacher", t.usd_of_the_run, t.requests_of_the_run, *prompts, None))
    else:
        notes.append("No teacher was asked: its answers were recorded, or are the gold labels.")
    if (s := ledger.student) is not None:
        tokens = (s.prefilled_tokens, None, s.sampled_tokens, s.trained_tokens)
        table.append(_used("student", s.usd, s.requests, *tokens))
    if (e := estimate) is not None:
        tokens = (e.prefilled_tokens, None, e.sampled_tokens, e.trained_tokens)
        table.append(_used("student, as estimated before training", e.usd, None, *tokens))
        notes += [f"Estimate: {note}." for note in e.notes]
    columns = ["requests", "prompt tokens", "of them cached", "completion tokens", "trained tokens", "US$"]
    return Table(["", *columns], table, notes=notes)


def _used(who: str, usd: float | None, *counts: int | None) -> list[Cell]:
    return cells(who, *map(count, counts), UNDEFINED if usd is None else f"{usd:.4f}")


@section("provenance", order=500)
def provenance(data: ReportData) -> Section | None:
    """Versions, commit and digests."""
    if not data.provenance:
        return None
    rows = [[Cell(name), Cell(value or UNDEFINED, code=bool(value))] for name, value in data.provenance]
    text = "Two runs with the same digests had the same data, prompts, rules and settings."
    return Section("provenance", "Versions and digests", [Prose(text), Table(["", ""], rows, left=2)])


@section("files", order=700)
def files(data: ReportData) -> Section | None:
    """The other files of the run."""
    if not data.files:
        return None
    rows = [[Cell(name, code=True), Cell(what)] for name, what in data.files.items()]
    text = "These files, in the run's folder, have the texts and the rest."
    return Section("files", "Where to look", [Prose(text), Table(["file", "what is in it"], rows, left=2)])


@section("models", order=900)
def models(data: ReportData) -> list[Section]:
    """Each model with its metrics, with six decimals: scripts read them at the end of test_report.md."""
    sections = []
    for i, model in enumerate(data.models):
        facts, m = [("model_path", Cell(model.model_path, code=True))], model.metrics
        if m is None:
            facts.append(("metrics", Cell("not measured in this run")))
        else:
            facts += [(name, Cell(number(m[name], 6))) for name in _IN_BLOCKS]
            facts += [(name, Cell(number(m[name], 0))) for name in ("tp", "fp", "fn", "tn")]
        sections.append(Section(f"model-{i}", model.title, [Facts(facts)]))
    return sections
