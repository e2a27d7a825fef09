"""What was run on which data, what it took, where its files are, and what it can be traced to."""

from __future__ import annotations

from collections.abc import Mapping

from core.evaluation.threshold import describe
from core.export.ledger import CostEstimate
from core.report.data import ReportData
from core.report.document import UNDEFINED, Block, Bullets, Cell, Facts, Prose, Section, Table, cells, section
from core.report.sections.training import skewed
from core.report.text import count, number, sentence
from core.results import Ledger

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
    blocks: list[Block] = [Prose(text), _tokens(ledger, data.estimate)]
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


def _tokens(ledger: Ledger, estimate: CostEstimate | None) -> Table:
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
