"""The model card states what is known, and what is not: no number is invented, none is missing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from core.data.stage import FILE as SPLIT_SUMMARY
from core.data.stage import SplitSummary
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis
from core.evaluation.decision import DECISION, Decided
from core.export.bundle import PARITY, Bundle
from core.export.card import CardData, render_card
from core.export.parity import Apart, Parity
from core.rejection.funnel import SUMMARY_FILE, TeacherSummary
from core.student.encode_stage import SUMMARY_FILE as ENCODED
from core.student.encode_stage import EncodeSummary
from tests.core.pipeline.making import Made


@pytest.fixture
def data(made: Made, opened: Bundle) -> CardData:
    """What the small project's card is made of."""

    def of(stage: str, name: str) -> Any:
        return made.store.file(made.manifests[stage], name)

    return CardData(
        contents=opened.contents,
        dataset="texts of the office",
        step=6,
        analysis=Analysis.read(of("analyse/student", ANALYSIS)),
        decision=Decided.read(of("decide/student/reasoning", DECISION)),
        split=SplitSummary.read(of("split", SPLIT_SUMMARY)),
        teacher=TeacherSummary.read(of("reject", SUMMARY_FILE)),
        parity=Parity.read(opened.folder / PARITY),
        encoded=EncodeSummary.read(of("encode", ENCODED)),
    )


def test_every_scorer_every_split_and_the_names_of_both_classes_are_there(data: CardData) -> None:
    card = render_card(data)
    assert "texts of the office" in card
    assert f"`{data.contents.base.spec}`" in card
    assert f"`{data.contents.base.digest}`" in card
    assert "| Chosen step | 6 |" in card
    for scorer in data.analysis.scorers.values():
        assert f"{scorer.intervals['macro_f1'].value:.3f}" in card
        assert scorer.title in card
    for name, part in data.split.used_split_summary.items():
        assert f"| {name} | {part.count} | {part.label_counts.positive} |" in card
    assert "nan" not in card.lower().split()
    assert "None" not in card


def test_the_untrained_model_is_not_called_trained(data: CardData) -> None:
    card = render_card(dataclasses.replace(data, step=0))
    assert "untrained model was best on val" in card
    assert "No step of this was better on val than the untrained model" in card


def test_what_a_student_learned_from_is_named(data: CardData) -> None:
    assert data.teacher is not None
    gold = data.teacher.model_copy(update={"teacher_kind": "gold"})
    model = data.teacher.teacher_model
    for changed, source in (
        ({}, f"{data.encoded.examples if data.encoded else 0} answers of the teacher ({model})"),
        ({"encoded": None}, f"answers of the teacher ({model})"),
        ({"teacher": gold}, f"{data.encoded.examples if data.encoded else 0} gold labels"),
        ({"teacher": None, "encoded": None}, "rewards for its own answers"),
    ):
        assert f"It learned from {source} to the texts of train." in render_card(
            dataclasses.replace(data, **changed)
        )


def test_without_a_threshold_the_card_says_why(data: CardData) -> None:
    none = dataclasses.replace(data.decision.threshold, value=None, reason="no threshold reaches 0.9")
    decision = data.decision.model_copy(update={"threshold": none})
    card = render_card(dataclasses.replace(data, decision=decision))
    assert "decides nothing: no threshold reaches 0.9" in card
    assert "no threshold" not in render_card(data)


def test_a_baseline_that_is_not_shown_to_be_worse_is_named(data: CardData) -> None:
    others = [scorer.title for scorer, _ in data.analysis.compared()]
    assert f"it is not shown to be better than {others[0]}" in render_card(data)


@pytest.mark.parametrize(
    ("parity", "says"),
    [
        (Parity(checked=False, why="nobody looked"), "was not checked: nobody looked."),
        (
            Parity(checked=True, against="trained", reloaded=Apart(16, 0.00125, 3)),
            "on 16 rows of val differ from those of the trained model by 0.0013 nats at most; 3 labels",
        ),
        (
            Parity(checked=True, against="trained", reloaded=Apart(1, None, 0), merged=Apart(1, 0.5, 1)),
            "by no number; 0 labels",
        ),
    ],
)
def test_the_parity_check_is_told_in_its_own_numbers(data: CardData, parity: Parity, says: str) -> None:
    card = render_card(dataclasses.replace(data, parity=parity))
    assert says in card
    assert ("Merged, its" in card) == (parity.merged is not None)


def test_a_prompt_of_labels_alone_gives_no_reasoning(data: CardData) -> None:
    prompt = data.contents.prompt.model_copy(update={"target": "label_only", "rulebook": True})
    contents = data.contents.model_copy(update={"prompt": prompt})
    card = render_card(dataclasses.replace(data, contents=contents))
    assert "A reasoning is what the model writes" not in card
    assert "| Rulebook in the prompt | yes |" in card
