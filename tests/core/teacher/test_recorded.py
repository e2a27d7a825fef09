"""Recorded answers are read as they are; missing ones stay missing, broken lines are errors."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from core.config import ParseConfig
from core.errors import AnswersError
from core.progress import Silent
from core.records import Example, LabelSet, TeacherAnswer
from core.teacher.parsing import LabelNames
from core.teacher.recorded import RecordedTeacher, answers_digest
from core.teacher.samples import AttemptPolicy

NAMES = LabelNames(LabelSet.binary(("spam",), ("ham",)))
TEXTS = [Example("a", "A", 1), Example("7", "B", 0), Example("c", "C", 1)]


def raw_answer(label: object, reasoning: str = "r") -> str:
    return json.dumps({"reasoning": reasoning, "label": label})


def line(name: object, label: object = 1, **more: Any) -> dict[str, Any]:
    return {"id": name, "raw_output": raw_answer(label), **more}


def teacher(url: Path | str, attempts: int = 3, keep: int = 1, prefer: str = "raw_output") -> RecordedTeacher:
    rules = ParseConfig.model_validate({"prefer": prefer})
    return RecordedTeacher(str(url), rules, NAMES, AttemptPolicy(attempts, keep))


def write(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(who: RecordedTeacher, texts: list[Example] = TEXTS) -> dict[str, tuple[TeacherAnswer, ...]]:
    return {a.example.id: a.answers for a in who.answers(texts, len(texts), Silent())}


def test_answers_follow_text_order_and_missing_ones_stay_missing(tmp_path: Path) -> None:
    who = teacher(write(tmp_path, line("x"), line("c", model="m2"), line("a", model="m1"), line("y")))
    found = asked(who)
    assert list(found) == ["a", "7", "c"]
    assert [len(answers) for answers in found.values()] == [1, 0, 1]
    assert found["a"][0] == TeacherAnswer("a", 0, "m1", raw_answer(1), True, "json", 1, "r")
    assert who.model == "m1, m2"
    assert who.facts().to_json() == {
        "recorded_answers": 4, "recorded_not_asked": 2, "unknown_ids": 2, "an_id_of_the_file": "x",
    }  # fmt: skip


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    assert len(asked(teacher(write(tmp_path, line(7, 0))))["7"]) == 1


@pytest.mark.parametrize(
    ("attempts", "keep", "samples"),
    [
        (1, 1, [0]),
        (2, 1, [0, 2]),
        (3, 1, [0, 2]),
        (3, 2, [0, 2, 5]),
        (4, 2, [0, 2, 5, 9]),
        (5, 3, [0, 2, 5, 9]),
    ],
)
def test_samples_are_used_in_order_until_enough_agree(
    tmp_path: Path, attempts: int, keep: int, samples: list[int]
) -> None:
    rows = [line("a", label, sample=s) for s, label in [(9, 1), (2, 1), (0, 0), (5, 0)]]
    found = asked(teacher(write(tmp_path, *rows), attempts, keep))["a"]
    assert [answer.sample for answer in found] == samples


def test_fields_are_read_without_an_output_or_if_preferred(tmp_path: Path) -> None:
    both = {"id": "a", "raw_output": raw_answer(0, "raw"), "label": "Spam", "reasoning": "field"}
    only = {"id": "7", "label": 0, "reasoning": "field"}
    unread = {"id": "c", "label": None, "reasoning": "field"}
    path = write(tmp_path, both, only, unread)
    raw, fields = asked(teacher(path)), asked(teacher(path, prefer="fields"))
    assert (raw["a"][0].label, raw["a"][0].reasoning, raw["a"][0].parse_source) == (0, "raw", "json")
    assert (fields["a"][0].label, fields["a"][0].reasoning, fields["a"][0].parse_source) == (
        1,
        "field",
        "fields",
    )
    assert raw["7"][0].parse_ok
    assert (raw["c"][0].parse_ok, raw["c"][0].error) == (False, "unknown_label: None")


def with_recorded_label(name: str, output: object, recorded: object, **more: Any) -> dict[str, Any]:
    return {**line(name, output), "label": recorded, "reasoning": "field", **more}


def test_parsed_labels_are_compared_with_recorded_ones(tmp_path: Path) -> None:
    rows = [
        with_recorded_label("agree", 1, "Spam"),
        with_recorded_label("differ", 1, 0),
        with_recorded_label("unread", "maybe", 1),
        with_recorded_label("unrecorded", 0, None),
        with_recorded_label("neither", "maybe", "perhaps"),
        {**line("label only", 1), "label": True},
        {"id": "fields", "label": 1, "reasoning": "field"},
        line("output"),
        with_recorded_label("not asked", 1, 0),
        with_recorded_label("agree", 1, 0, sample=1),
    ]
    names = ["agree", "differ", "unread", "unrecorded", "neither", "label only", "fields", "output"]
    texts = [Example(name, name, 1) for name in names]
    who = teacher(write(tmp_path, *rows))
    found = asked(who, texts)
    assert found["differ"][0].label == 1
    assert who.facts().to_json()["recorded_labels"] == {
        "both": 6, "agree": 2, "differ": 1, "unread": 1, "unrecorded": 1, "neither": 1,
    }  # fmt: skip
    assert list(who.facts().notices) == [
        "the label read from raw_output is not the recorded one in 3 of 6 answers (differ: 1, not read: 1, "
        "none recorded: 1; the first is to id 'differ'): fix teacher.parse, or take the recorded labels "
        "with teacher.parse.prefer: fields"
    ]


def test_labels_that_agree_are_counted_without_a_notice(tmp_path: Path) -> None:
    who = teacher(
        write(tmp_path, with_recorded_label("a", 1, "spam"), with_recorded_label("c", "maybe", None))
    )
    asked(who)
    assert (labels := who.facts().recorded_labels) is not None
    assert labels.agree == labels.neither == 1
    assert list(who.facts().notices) == []


def test_labels_are_not_compared_if_fields_are_read(tmp_path: Path) -> None:
    who = teacher(write(tmp_path, with_recorded_label("a", 1, 0)), prefer="fields")
    assert asked(who)["a"][0].label == 0
    assert not {"recorded_labels", "notices"} & who.facts().model_fields_set


def test_answers_are_read_from_urls_and_gz(tmp_path: Path) -> None:
    plain = write(tmp_path, line("a"), line("c"))
    packed = tmp_path / "answers.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    url = "memory://answers-test/answers.jsonl.gz"
    with fsspec.open(url, "wb") as f:
        f.write(packed.read_bytes())
    assert asked(teacher(plain)) == asked(teacher(packed)) == asked(teacher(url))
    assert answers_digest(url) == answers_digest(str(packed)) != answers_digest(str(plain))


def test_half_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "a", "raw_output": "\\ud83d {\\"reasoning\\": \\"\\\\ud83d\\", \\"label\\": 1}"}\n'
    )
    (answer,) = asked(teacher(path))["a"]
    assert answer.label == 1
    (answer.raw_output + str(answer.reasoning)).encode()


BROKEN = [
    (
        b'{"id": "a", "raw_output": "x"',
        "not JSON (Expecting ',' delimiter at column 30); fix or remove the line",
    ),
    (b"[1]", "not a JSON object; a line contains id and raw_output, or reasoning and label"),
    (b'{"raw_output": "x"}', "neither id nor text; give the text's id, or the text itself"),
    (b'{"id": 1.5, "raw_output": "x"}', "id is 1.5; give the text's id, as text or a whole number"),
    (b'{"id": "a"}', "neither raw_output nor reasoning and label; give one of the two"),
    (b'{"id": "a", "label": 1}', "neither raw_output nor reasoning and label; give one of the two"),
    (b'{"id": "a", "raw_output": {"x": 1}}', 'raw_output is {"x": 1}; give a text'),
    (b'{"id": "a", "raw_output": "x", "sample": -1}', "sample is -1; give a whole number from 0 on"),
    (b'{"id": "a", "raw_output": "x", "sample": true}', "sample is true; give a whole number from 0 on"),
    (b'{"id": "a", "raw_output": "x", "temperature": "hot"}', 'temperature is "hot"; give a number'),
    (b'{"id": "a", "raw_output": "caf\xe9"}', "byte 30 of the line is not UTF-8; save it as UTF-8"),
    (
        b'{"id": "first", "raw_output": "x"}',
        "a second answer to id 'first', sample 0; the first is on line 1; "
        "remove one or number them with sample",
    ),
]


@pytest.mark.parametrize(("bad", "message"), BROKEN)
def test_broken_line_is_reported_before_the_first_answer(tmp_path: Path, bad: bytes, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"id": "first", "raw_output": "x"}\n\n' + bad + b"\n")
    with pytest.raises(AnswersError) as e:
        next(teacher(path).answers(TEXTS, 3, Silent()))
    assert str(e.value) == f"{path}:3: {message}"


def test_missing_empty_and_damaged_files_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "answer.jsonl").write_text("\n")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1, "raw_output": "x"}\n')[:-9])
    (tmp_path / "not.jsonl.gz").write_bytes(b"plain")
    for name, message in {
        "answers.jsonl": "file .* does not exist; its folder holds answer.jsonl.*; set teacher.answers",
        "answer.jsonl": "answer.jsonl contains no answers; name another file in teacher.answers",
        "not.jsonl.gz": "not.jsonl.gz ends in .gz but is not a whole gzip file",
        "cut.jsonl.gz": "cut.jsonl.gz ends in .gz but is not a whole gzip file",
        "": "is a folder without teacher_phase/.* name a run's folder, or a file of answers",
    }.items():
        with pytest.raises(AnswersError, match=message):
            asked(teacher(tmp_path / name))


def test_memory_does_not_grow_with_the_number_of_answers(tmp_path: Path) -> None:
    path, n = tmp_path / "many.jsonl", 3_000
    with path.open("w") as f:
        f.writelines(json.dumps(line(f"id{i}", i % 2)) + "\n" for i in range(n))

    def texts() -> Iterator[Example]:
        yield from (Example(f"id{i}", "t", i % 2) for i in range(n))

    tracemalloc.start()
    answered = sum(len(a.answers) for a in teacher(path).answers(texts(), n, Silent()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answered == n
    assert peak < 1_000_000
