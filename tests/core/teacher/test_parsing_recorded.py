"""The parser on answers that models gave, against labels that others read from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core.config import Config, ParseConfig
from core.config.loading import load
from core.jsonio import read_jsonl
from core.progress import Silent
from core.records import Example
from core.teacher.parsing import LabelNames, ParsedAnswer, parse
from core.teacher.recorded import RecordedTeacher
from core.teacher.samples import AttemptPolicy

REPO = Path(__file__).resolve().parents[3]
# Why an output is not read and the label recorded of it; then the label read and the gold one.
SAID = {
    (None, 1): 5_698,
    (None, 0): 4_886,
    ("unknown_label: neutral", None): 2_626,
    ("no_label", None): 2,
}
AGAINST_GOLD = {
    (1, 1): 5_586, (1, 0): 112, (0, 0): 4_783, (0, 1): 103, (None, 0): 1_620, (None, 1): 1_008,
}  # fmt: skip


def config(name: str) -> Config:
    return load(REPO / "configs" / name).config


def names_of(config: Config) -> LabelNames:
    return LabelNames(config.data.labels, config.teacher.parse.labels)


def read(rows: list[dict[str, Any]], config: Config, **changed: Any) -> list[ParsedAnswer]:
    rules = config.teacher.parse.model_copy(update=changed)
    return [parse(row["raw_output"], rules, names_of(config)) for row in rows]


@pytest.fixture(scope="module")
def palm_file(real_data: Path) -> Path:
    file = real_data / "esnli_entail_contra/teacher/palm-540b.jsonl"
    if not file.is_file():
        pytest.skip(f"no recorded answers at {file}; set UNDERSTUDY_TEST_DATA")
    return file


@pytest.fixture(scope="module")
def palm(palm_file: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(palm_file))


@pytest.fixture(scope="module")
def palm_read(palm: list[dict[str, Any]]) -> list[ParsedAnswer]:
    return read(palm, config("esnli.yaml"))


def test_every_quickstart_answer_is_strict_json() -> None:
    names = LabelNames()
    rows = read_jsonl(REPO / "dataset/sms/teacher_answers.jsonl")
    found = [parse(row["raw_output"], ParseConfig(), names) for row in rows]
    assert Counter((p.ok, p.source) for p in found) == {(True, "json"): 400}


@pytest.mark.parametrize("model", ["gpt-4", "gpt-3.5-turbo"])
def test_label_before_the_reasoning_is_parsed_in_all_1118_answers(real_data: Path, model: str) -> None:
    rows = list(read_jsonl(real_data / "fpb_opinionated/teacher" / f"{model}.jsonl"))
    found = read(rows, config("fpb.yaml"))
    assert [(p.label, p.reasoning) for p in found] == [(r["label"], r["reasoning"]) for r in rows]
    assert len(rows) == 1118


def test_run_on_answers_match_recorded_labels_in_all_13212_rows(
    palm: list[dict[str, Any]], palm_read: list[ParsedAnswer]
) -> None:
    found = palm_read
    assert Counter((p.error, row["label"]) for p, row in zip(found, palm, strict=True)) == SAID
    assert [p.label for p in found] == [row["label"] for row in palm]
    assert all(p.reasoning == row["reasoning"] for p, row in zip(found, palm, strict=True) if p.ok)
    assert Counter(p.source for p in found) == {"pattern": 13_210, None: 2}


def test_run_on_answers_agree_with_gold_as_often_as_recorded(
    palm: list[dict[str, Any]], palm_read: list[ParsedAnswer]
) -> None:
    assert Counter((p.label, row["gold"]) for p, row in zip(palm_read, palm, strict=True)) == AGAINST_GOLD


def test_matching_recorded_labels_give_no_notice(palm: list[dict[str, Any]], palm_file: Path) -> None:
    rules = config("esnli.yaml")
    who = RecordedTeacher(str(palm_file), rules.teacher.parse, names_of(rules), AttemptPolicy(1, 1))
    texts = [Example(row["id"], "", row["gold"]) for row in palm]
    assert sum(len(a.answers) for a in who.answers(texts, len(texts), Silent())) == 13_212
    assert who.facts().to_json()["recorded_labels"] == {
        "both": 13_212, "agree": 10_584, "differ": 0, "unread": 0, "unrecorded": 0, "neither": 2_628,
    }  # fmt: skip
    assert list(who.facts().notices) == []


def test_first_match_and_stop_string_each_exclude_the_next_question(palm: list[dict[str, Any]]) -> None:
    """Read to its end at the last match, an output gives the next question's answer; either setting
    alone is enough for these. 398 outputs are cut inside that answer, and their last whole word is
    the right one."""
    labels = [row["label"] for row in palm]

    def wrong(**changed: Any) -> int:
        found = read(palm, config("esnli.yaml"), **changed)
        return sum(p.label != label for p, label in zip(found, labels, strict=True))

    assert wrong(stop=()) == 0
    assert wrong(label_match="last") == 0
    assert wrong(label_match="last", stop=()) == 3_110
