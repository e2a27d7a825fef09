"""The bundle's README.md: what the model was trained on, how it was measured, and where its limits are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.bundle.contents import Contents
from core.report import markdown, teaching
from core.report.blocks import Bullets, Cell, Prose, Section, Table, cells
from core.report.scorers import outcome
from core.report.words import and_, begins, name_of, number, plural, with_interval

SHOWN = ("macro_f1", "auroc", "accuracy", "precision", "recall", "f1", "log_loss", "brier")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said of a model: files of its run as they are written.

    `analysis` is analysis.json, `decision` decision.json, `split` split_summary.json, `teacher`
    teacher_summary.json, None where it learnt from rewards, `parity` parity.json; `step` is 0 where the
    untrained model was chosen. `encoded` is encode_summary.json, which states how many answers were trained
    on; None where it learned from rewards.
    """

    contents: Contents
    dataset: str
    step: int
    analysis: Mapping[str, Any]
    decision: Mapping[str, Any]
    split: Mapping[str, Any]
    teacher: Mapping[str, Any] | None
    parity: Mapping[str, Any]
    encoded: Mapping[str, Any] | None = None


def render(facts: Facts) -> str:
    """The card as Markdown, without any text of the data."""
    title = f"Model card: a student of {facts.dataset}"
    return markdown.document(
        title, None, [_model(facts), _data(facts), _measured(facts), _limits(facts), _use()]
    )


def _model(facts: Facts) -> Section:
    of, prompt = facts.contents, facts.contents.prompt
    answers = "label_only" if prompt["label_only"] else prompt["target"]
    rows = [
        [Cell("Base model"), Cell(of.base.spec, code=True)],
        [Cell("its digest"), Cell(of.base.digest, code=True)],
        cells("Trained by", of.base.engine),
        cells("Chosen step", str(facts.step) if facts.step else "none: the untrained model was best on val"),
        cells("Answers", str(answers)),
        cells("Rulebook in the prompt", "yes" if prompt["rulebook"] else "no"),
        cells("Longest prompt and answer", plural(int(prompt["max_length"]), "token")),
        cells("Calibration", facts.decision["calibrator"]["kind"]),
        cells("Threshold", number(facts.decision["threshold"]["value"])),
        cells("Positive", ", ".join(of.labels["positive"])),
        cells("Negative", ", ".join(of.labels["negative"])),
    ]
    return Section("model", "What it is", [Table(["", ""], rows, left=2)])


def _data(facts: Facts) -> Section:
    used = facts.split["used_split_summary"]
    rows = [
        cells(name, f"{part['count']:,}", f"{part['label_counts']['1']:,}") for name, part in used.items()
    ]
    learned = f"It learned from {_learned(facts)} to the texts of train."
    if facts.step == 0 and facts.teacher is not None:
        learned += " No step of this was better on val than the untrained model, which this is."
    words = f"{learned} All was chosen on val; test was read after that."
    notes = (
        None if facts.encoded is None else teaching.dropped(facts.encoded),
        teaching.skewed(facts.teacher or {}),
    )
    said = [Prose(begins(f"{note}.")) for note in notes if note is not None]
    return Section(
        "data", "What it was trained on", [Prose(words), Table(["split", "rows", "positive"], rows), *said]
    )


def _learned(facts: Facts) -> str:
    """What was trained on: the examples that were encoded, which may be fewer than the accepted answers."""
    teacher, encoded = facts.teacher, facts.encoded
    if teacher is None:
        return "rewards for its own answers"
    is_gold = teacher["teacher_kind"] == "gold"
    noun = "gold label" if is_gold else "answer"
    counted = f"{noun}s" if encoded is None else plural(encoded["examples"], noun)
    return counted if is_gold else f"{counted} of the teacher ({teacher['teacher_model']})"


def _measured(facts: Facts) -> Section:
    analysis = facts.analysis
    rows = [
        [Cell(s["title"]), *(with_interval(s["intervals"][m]) for m in SHOWN)]
        for s in analysis["scorers"].values()
    ]
    words = (
        f"On {plural(analysis['rows'], 'row')} of {analysis['split']}, {analysis['positive']:,} of them "
        "positive, with 95 % intervals; the first row is this model. A text is predicted positive when its "
        "calibrated probability is at or above the threshold."
    )
    table = Table(["", *map(name_of, SHOWN)], rows, strong=frozenset({0}))
    return Section("measured", "How it was measured", [Prose(words), table, Bullets(list(_parity(facts)))])


def _parity(facts: Facts) -> Iterator[str]:
    if not facts.parity["checked"]:
        yield f"Whether it answers the same when it is loaded again was not checked: {facts.parity['why']}."
        return
    for name, apart in facts.parity.items():
        if isinstance(apart, Mapping):
            largest = (
                "by no number" if apart["largest"] is None else f"by {apart['largest']:.2g} nats at most"
            )
            yield (
                f"{name.capitalize()}, its log-probabilities on {plural(apart['rows'], 'row')} of val differ "
                f"from those of the {facts.parity['against']} model {largest}; "
                f"{plural(apart['flips'], 'label')} changed."
            )


def _limits(facts: Facts) -> Section:
    analysis, d = facts.analysis, facts.decision["threshold"]
    said = [
        f"The numbers hold for texts like those of {facts.dataset}; nothing is known of others.",
        f"The intervals come from {plural(analysis['rows'], 'row')}: what they cover is not told apart.",
        "Texts longer than the prompt has room for are cut at their end; what was cut off was not read.",
    ]
    if d["value"] is None:
        said.append(f"There is no threshold, so that nothing is decided: {d['reason']}.")
    worse = [
        s["title"]
        for s, c in zip(list(analysis["scorers"].values())[1:], analysis["comparisons"], strict=True)
        if outcome(c, "macro_f1") != "better"
    ]
    if worse:
        said.append(f"In macro-F1 it is not shown to be better than {and_(worse)} on these rows.")
    if facts.contents.prompt["target"] != "label_only":
        said.append("A reasoning is what the model writes, not what its decision was made by.")
    return Section("limits", "Limits", [Bullets(said)])


def _use() -> Section:
    rows = [
        [
            Cell("a table"),
            Cell("understudy predict --model FOLDER --input new.csv", code=True),
        ],
        [Cell("in Python"), Cell("core.predict.load(folder)(texts)", code=True)],
    ]
    words = "FOLDER is the one that holds this file. Loading refuses another base model, tokenizer or prompt."
    return Section("use", "How to use it", [Table(["", ""], rows, left=2), Prose(words)])
