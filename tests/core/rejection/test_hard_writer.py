"""A text is hard if every answer was rejected; it is listed with all reasons and marked in the data."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from core import jsonio
from core.records import Example, TeacherAnswer, Verdict
from core.rejection.stage import HARD_FILE, HardWriter, JudgedAnswer, is_hard, read_tags, tagged_file

TEXTS = [
    Example("a", 'He said "no",\r\nand went', 1),
    Example("b", "plain", 0),
    Example("c", "ünïcode", 1),
    Example("d", "nobody answered", 0),
]


def judged(label: int | None, *rules: str, sample: int = 0, surplus: bool = False) -> JudgedAnswer:
    answer = TeacherAnswer("x", sample, "m", "raw", label is not None, "json", label, "why")
    verdicts = (*(Verdict(rule, True, f"{rule}!") for rule in rules), Verdict("too_long", False))
    return JudgedAnswer(answer, verdicts, surplus)


@pytest.fixture
def written(tmp_path: Path) -> HardWriter:
    """Four texts: one hard, one accepted at last, one accepted with a surplus, one without an answer."""
    with HardWriter(tmp_path, "train") as writer:
        writer.add(
            2, TEXTS[0], [judged(0, "label_mismatch", "too_short"), judged(None, "unparsed", sample=1)]
        )
        writer.add(4, TEXTS[1], [judged(1, "label_mismatch"), judged(0, sample=1)])
        writer.add(5, TEXTS[2], [judged(1), judged(1, sample=1, surplus=True)])
        writer.add(6, TEXTS[3], [])
    return writer


def test_a_hard_text_is_listed_with_its_place_its_gold_label_and_every_reason(
    tmp_path: Path, written: HardWriter
) -> None:
    (row,) = jsonio.read_jsonl(tmp_path / HARD_FILE)
    assert row == {
        "example_id": "a",
        "place": "data_splits/train.csv:2",
        "text": 'He said "no",\r\nand went',
        "gold_label": 1,
        "answers": [
            {
                "k_index": 0,
                "pred_label": 0,
                "reasons": [
                    {"rule": "label_mismatch", "detail": "label_mismatch!"},
                    {"rule": "too_short", "detail": "too_short!"},
                ],
            },
            {"k_index": 1, "pred_label": None, "reasons": [{"rule": "unparsed", "detail": "unparsed!"}]},
        ],
    }


def test_every_text_is_marked_and_unanswered_ones_are_neither(tmp_path: Path, written: HardWriter) -> None:
    path = tmp_path / tagged_file("train")
    with path.open(encoding="utf-8", newline="") as f:
        rows = list(csv.reader(f))
    assert rows[0] == ["id", "text", "label", "hard"]
    assert [(r[0], r[1], r[2]) for r in rows[1:]] == [(e.id, e.text, str(e.label)) for e in TEXTS]
    assert [r[3] for r in rows[1:]] == ["1", "0", "0", ""]
    assert dict(read_tags(path)) == {"a": True, "b": False, "c": False, "d": None}


def test_hard_texts_are_counted_by_gold_label_among_answered_ones(written: HardWriter) -> None:
    found = written.hardness()
    assert (found.texts, found.unanswered) == (1, 1)
    assert {k: (s.count, s.total) for k, s in found.by_label.items()} == {"0": (0, 1), "1": (1, 2)}
    assert found.difference.value == 0.5
    assert (found.by_label["1"].low or 0) < 0.5 < (found.by_label["1"].high or 0)


def test_text_without_an_answer_is_not_judged() -> None:
    assert is_hard([]) is None
    assert is_hard([judged(1, "refuses")]) is True
    assert is_hard([judged(1, "refuses"), judged(1)]) is False
