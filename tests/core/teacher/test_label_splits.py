"""Val and test take one answer per text, and none that was shown the label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import PromptsConfig, RulesConfig, TeacherConfig, key_fields
from core.config.loading import load
from core.errors import AnswersError, ConfigError
from core.records import Example, SplitName, write_examples
from core.stage import StageIO
from core.teacher import stage

TEXTS = [Example("a", "A", 1), Example("b", "B", 0), Example("c", "C", 1)]
PROMPTS = "task_instruction: T\nteacher_user: '{{ text }}'\nstudent_user: '{{ text }}'\n"


def raw(name: str, label: int, **more: Any) -> dict[str, Any]:
    return {"id": name, "raw_output": json.dumps({"reasoning": "why", "label": label}), **more}


def prepare(
    tmp_path: Path, answers: list[dict[str, Any]], split: SplitName = "test", **teacher: Any
) -> tuple[stage.SampleSettings, StageIO]:
    for name in ("split", "rules", "out"):
        (tmp_path / name).mkdir(exist_ok=True)
    write_examples(tmp_path / f"split/{split}.csv", TEXTS)
    (tmp_path / "rules/a.txt").write_text("R1 one")
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))
    settings = stage.SampleSettings(
        teacher=TeacherConfig.model_validate({"answers": str(tmp_path / "answers.jsonl"), **teacher}),
        rules=RulesConfig(dir=str(tmp_path / "rules")),
        prompts=PromptsConfig(file=str(tmp_path / "prompts.yaml")),
        split=split,
    )
    return settings, StageIO({"split": tmp_path / "split"}, tmp_path / "out")


def rows(io: StageIO) -> list[tuple[str, str, int | None]]:
    found = jsonio.read_jsonl(io.out / stage.SAMPLES_FILE)
    return [(r["sample_id"], r["split"], r["pred_label"]) for r in found]


WRONG_FIRST = [raw("a", 0), raw("a", 1, sample=1), raw("b", 0), raw("c", 0), raw("c", 1, sample=1)]


def test_wrong_first_answer_is_kept_outside_of_train(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, WRONG_FIRST, attempts=3)
    summary = stage.sample(settings, io)
    assert rows(io) == [("a_k0", "test", 0), ("b_k0", "test", 0), ("c_k0", "test", 0)]
    assert summary["first_answers"] == {"tp": 0, "fn": 2, "fp": 0, "tn": 1, "unread": 0}
    assert summary["agreement"]["texts_with_several_answers"] == 0
    settings, io = prepare(tmp_path, WRONG_FIRST, "train", attempts=3)
    stage.sample(settings, io)
    assert [name for name, _, _ in rows(io)] == ["a_k0", "a_k1", "b_k0", "c_k0", "c_k1"]


def test_hinted_answers_are_left_out_and_counted_outside_of_train(tmp_path: Path) -> None:
    answers = [raw("a", 1, hinted=True), raw("a", 0, sample=1), raw("b", 0), raw("c", 1, hinted=True)]
    settings, io = prepare(tmp_path, answers)
    summary = stage.sample(settings, io)
    assert rows(io) == [("a_k1", "test", 0), ("b_k0", "test", 0)]
    assert summary["missing_ids"] == ["c"]
    assert summary["notices"] == [
        "1 of 3 texts of test have no answer (1 positive, 0 negative)",
        "2 answers to texts of test were shown the gold label and were left aside",
    ]


def test_answers_to_other_splits_give_no_notice(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [raw("a", 1), raw("b", 0), raw("c", 1), raw("of train", 1)], "val")
    summary = stage.sample(settings, io)
    assert summary["notices"] == []
    assert (summary["unknown_ids"], summary["examples"], summary["missing"]) == (1, 3, 0)


def test_missing_answers_are_an_error_only_beyond_max_missing(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [raw("b", 0)])
    assert stage.sample(settings, io)["missing_by_label"] == {"0": 0, "1": 2}
    settings, io = prepare(tmp_path, [raw("b", 0)], max_missing=1)
    with pytest.raises(AnswersError) as e:
        stage.sample(settings, io)
    assert str(e.value) == (
        f"2 of 3 texts of test have no answer in {tmp_path}/answers.jsonl (a, c); "
        "teacher.max_missing allows 1: record them, or raise it"
    )


def test_file_without_answers_to_the_split_is_rejected_with_a_remedy(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [raw("of train", 0)])
    with pytest.raises(AnswersError) as e:
        stage.sample(settings, io)
    assert str(e.value) == (
        f"{tmp_path}/answers.jsonl answers none of the 3 texts of test: its ids look like 'of train', those "
        "of test like 'a'; name the right file in teacher.answers, or the right column in data.id_column, or "
        "remove test from teacher.label_splits"
    )


def test_attempt_policy_changes_only_the_key_of_train(tmp_path: Path) -> None:
    once, _ = prepare(tmp_path, WRONG_FIRST)
    often, _ = prepare(tmp_path, WRONG_FIRST, attempts=5, keep=2, hint=True, label_splits=["test"])
    other, _ = prepare(tmp_path, WRONG_FIRST, "val")
    assert key_fields(once) == key_fields(often) != key_fields(other)
    train, _ = prepare(tmp_path, WRONG_FIRST, "train", attempts=5, keep=2)
    assert (train.teacher.attempts, train.teacher.keep) == (5, 2)


MISTAKES = [
    (
        "{kind: gold, label_splits: [test]}",
        "teacher: label_splits measures the teacher, but a teacher of kind gold is right by definition; "
        "remove label_splits",
    ),
    (
        "{answers: y, label_splits: [test, val, test]}",
        "teacher: label_splits names a split twice (test, val, test)",
    ),
    (
        "{answers: y, label_splits: [train]}",
        "teacher.label_splits.0: should be 'val' or 'test', not 'train'",
    ),
]


@pytest.mark.parametrize(("teacher", "sentence"), MISTAKES)
def test_invalid_label_splits_are_rejected(tmp_path: Path, teacher: str, sentence: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"data: {{path: x}}\nteacher: {teacher}\n")
    with pytest.raises(ConfigError) as e:
        load(path)
    assert str(e.value) == f"{path}:2: {sentence}"
