"""The bundle's README.md: what the model was trained on, how it was measured, and what its limits are."""

from __future__ import annotations

from dataclasses import dataclass

from core.data.stage import SplitSummary
from core.errors import strict
from core.evaluation.analysis import Analysis
from core.evaluation.decision import Decided
from core.export.bundle import Contents
from core.export.parity import Parity
from core.rejection.funnel import TeacherSummary
from core.report import (
    Block,
    Bullets,
    Cell,
    Document,
    Prose,
    Section,
    Table,
    and_,
    build_sections,
    cells,
    conclusion,
    name_of,
    number,
    plural,
    render_markdown,
    sentence,
    with_interval,
)
from core.report.run_sections import dropped, skewed
from core.student.encode_stage import EncodeSummary

SHOWN = ("macro_f1", "auroc", "accuracy", "precision", "recall", "f1", "log_loss", "brier")
_DECISIVE = "macro_f1"


@dataclass(frozen=True, slots=True)
class CardData:
    """What the card shows: the results of the run that trained the model."""

    contents: Contents
    dataset: str
    step: int
    """0 if the untrained model was chosen."""
    analysis: Analysis
    decision: Decided
    split: SplitSummary
    teacher: TeacherSummary | None
    """None if the student learned from rewards."""
    parity: Parity
    encoded: EncodeSummary | None = None
    """None if the student learned from rewards."""


def render_card(data: CardData) -> str:
    """Return the card as Markdown, without any text of the data."""
    builders = {"model": model, "data": training_data, "measured": measured, "limits": limits, "use": use}
    title = f"Model card: a student of {data.dataset}"
    return render_markdown(Document(title, build_sections(builders, data, strict())))


def model(data: CardData) -> Section:
    """The model, its prompt and its decision."""
    of, prompt = data.contents, data.contents.prompt
    rows = [
        [Cell("Base model"), Cell(of.base.spec, code=True)],
        [Cell("its digest"), Cell(of.base.digest, code=True)],
        cells("Trained by", of.base.engine),
        cells("Chosen step", str(data.step) if data.step else "none: the untrained model was best on val"),
        cells("Answers", "label_only" if prompt.label_only else prompt.target),
        cells("Rulebook in the prompt", "yes" if prompt.rulebook else "no"),
        cells("Longest prompt and answer", plural(prompt.max_length, "token")),
        cells("Calibration", data.decision.calibrator.kind),
        cells("Threshold", number(data.decision.threshold.value)),
        cells("Positive", ", ".join(of.labels.positive)),
        cells("Negative", ", ".join(of.labels.negative)),
    ]
    return Section("model", "What it is", [Table(["", ""], rows, left=2)])


def training_data(data: CardData) -> Section:
    """The splits, and what the student learned from."""
    rows = [
        cells(name, f"{part.count:,}", f"{part.label_counts.positive:,}")
        for name, part in data.split.used_split_summary.items()
    ]
    teacher, encoded, source = data.teacher, data.encoded, "rewards for its own answers"
    if teacher is not None:
        noun = "gold label" if teacher.is_gold else "answer"
        # Fewer examples may have been encoded than answers were accepted.
        source = f"{noun}s" if encoded is None else plural(encoded.examples, noun)
        source += "" if teacher.is_gold else f" of the teacher ({teacher.teacher_model})"
    learned = f"It learned from {source} to the texts of train."
    if data.step == 0 and teacher is not None:
        learned += " No step of this was better on val than the untrained model, which this is."
    text = f"{learned} All was chosen on val; test was read after that."
    notes = (None if encoded is None else dropped(encoded), skewed(teacher))
    table = Table(["split", "rows", "positive"], rows)
    notices = [Prose(sentence(note)) for note in notes if note is not None]
    return Section("data", "What it was trained on", [Prose(text), table, *notices])


def measured(data: CardData) -> Section:
    """The metrics of the model and of the others, and whether the bundle gives the same answers."""
    analysis = data.analysis
    rows = [
        [Cell(s.title), *(with_interval(s.intervals[m]) for m in SHOWN)] for s in analysis.scorers.values()
    ]
    text = (
        f"On {plural(analysis.rows, 'row')} of {analysis.split}, {analysis.positive:,} of them positive, "
        "with 95 % intervals; the first row is this model. A text is predicted positive when its calibrated "
        "probability is at or above the threshold."
    )
    table = Table(["", *map(name_of, SHOWN)], rows, strong=frozenset({0}))
    parity, compared = data.parity, list[str]()
    if not parity.checked:
        why = "Whether the bundle gives the same answers when it is loaded was not checked"
        compared.append(f"{why}: {parity.why}.")
    for name, apart in (("Reloaded", parity.reloaded), ("Merged", parity.merged)):
        if apart is not None:
            by = "by no number" if apart.largest is None else f"by {apart.largest:.2g} nats at most"
            compared.append(
                f"{name}, its log-probabilities on {plural(apart.rows, 'row')} of val differ from those of "
                f"the {parity.against} model {by}; {plural(apart.flips, 'label')} changed."
            )
    blocks: list[Block] = [Prose(text), table, Bullets(compared)]
    return Section("measured", "How it was measured", blocks)


def limits(data: CardData) -> Section:
    """What the numbers do not show."""
    analysis, threshold = data.analysis, data.decision.threshold
    items = [
        f"The numbers hold for texts like those of {data.dataset}; nothing is known about others.",
        f"The intervals come from {plural(analysis.rows, 'row')}: values inside them are all possible.",
        "Texts longer than the prompt has room for are truncated at their end, which is not read.",
    ]
    if threshold.value is None:
        items.append(f"The bundle has no threshold and decides nothing: {threshold.reason}.")
    worse = [
        other.title for other, c in analysis.compared() if conclusion(c.differences[_DECISIVE]) != "better"
    ]
    if worse:
        items.append(f"In macro-F1 it is not shown to be better than {and_(worse)} on these rows.")
    if data.contents.prompt.target != "label_only":
        items.append("A reasoning is what the model writes, not how its decision was made.")
    return Section("limits", "Limits", [Bullets(items)])


def use(data: CardData) -> Section:
    """How to load the bundle."""
    rows = [
        [Cell("a table"), Cell("understudy predict --model FOLDER --input new.csv", code=True)],
        [Cell("in Python"), Cell("core.predict.load(folder)(texts)", code=True)],
    ]
    text = "FOLDER is the folder of this file. Loading refuses another base model, tokenizer or prompt."
    return Section("use", "How to use it", [Table(["", ""], rows, left=2), Prose(text)])
