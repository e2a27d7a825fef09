"""The parser on answers that models really gave, against labels read from them by others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from core.config.teacher import ParseConfig
from core.jsonio import read_jsonl
from core.teacher.labels import LabelNames
from core.teacher.parsing import parse

REPO = Path(__file__).resolve().parents[3]


def test_every_quickstart_answer_is_strict_json() -> None:
    names = LabelNames.of({}, (), ())
    rows = read_jsonl(REPO / "dataset/quickstart/teacher_answers.jsonl")
    found = [parse(row["raw_output"], ParseConfig(), names) for row in rows]
    assert Counter((p.ok, p.source) for p in found) == {(True, "json"): 400}


@pytest.mark.parametrize("model", ["gpt-4", "gpt-3.5-turbo"])
def test_a_word_before_the_reasoning_is_read_in_all_1118_answers(real_data: Path, model: str) -> None:
    rules = ParseConfig(
        label_pattern=r"^\W*(?P<label>\w+)", labels={"neutral": 0, "positive": 1, "negative": 1}
    )
    names = LabelNames.of(rules.labels, ("1",), ("0",))
    rows = list(read_jsonl(real_data / "fpb_opinionated/teacher" / f"{model}.jsonl"))
    found = [parse(row["raw_output"], rules, names) for row in rows]
    assert [(p.label, p.reasoning) for p in found] == [(r["label"], r["reasoning"]) for r in rows]
    assert len(rows) == 1118


def test_run_on_answers_are_read_at_their_first_answer_in_all_13212_rows(real_data: Path) -> None:
    rules = ParseConfig(
        label_pattern=r"Answer:\s*(?P<label>\w+)",
        label_match="first",
        labels={"entailment": 1, "contradiction": 0},
        stop=("\n\nPremise:",),
    )
    names = LabelNames.of(rules.labels, (), ())
    rows = list(read_jsonl(real_data / "esnli_entail_contra/teacher/palm-540b.jsonl"))
    found = [parse(row["raw_output"], rules, names) for row in rows]
    assert [p.label for p in found] == [row["label"] for row in rows]
    assert all(p.reasoning == r["reasoning"] for p, r in zip(found, rows, strict=True) if p.ok)
    assert Counter(p.error for p in found) == {None: 10_584, "unknown_label: neutral": 2_626, "no_label": 2}
    last = rules.model_copy(update={"label_match": "last", "stop": ()})
    wrong = sum(parse(r["raw_output"], last, names).label != r["label"] for r in rows)
    assert wrong > 3_000
