"""The sample stage writes answers and rulebook, and counts missing answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import PromptsConfig, RulesConfig, TeacherConfig, key_fields
from core.errors import AnswersError
from core.records import Example, write_examples
from core.stage import StageIO
from core.teacher import stage
from core.teacher.samples import read_samples

TEXTS = [Example("a", 'He said "win"\r\n', 1), Example("b", "NA", 0), Example("c", "hi", 1)]
PROMPTS = "task_instruction: T\nteacher_user: '{{ text }}'\nstudent_user: '{{ text }}'\n"


def prepare(
    tmp_path: Path, answers: list[dict[str, Any]], **teacher: Any
) -> tuple[stage.SampleSettings, StageIO]:
    for name in ("split", "rules", "out"):
        (tmp_path / name).mkdir(exist_ok=True)
    write_examples(tmp_path / "split/train.csv", TEXTS)
    (tmp_path / "rules/a.txt").write_text("R1 one")
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(a) + "\n" for a in answers))
    config = {"answers": str(file), **teacher}
    if config.get("kind", "recorded") != "recorded":
        del config["answers"]
    settings = stage.SampleSettings(
        teacher=TeacherConfig.model_validate(config),
        rules=RulesConfig(dir=str(tmp_path / "rules")),
        prompts=PromptsConfig(file=str(tmp_path / "prompts.yaml")),
        positive=("spam",),
    )
    return settings, StageIO({"split": tmp_path / "split"}, tmp_path / "out")


def raw(name: str, label: int | str, **more: Any) -> dict[str, Any]:
    return {"id": name, "raw_output": json.dumps({"reasoning": "why", "label": label}), **more}


def test_answers_and_rulebook_are_written(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [raw("c", "Spam", model="m"), raw("a", 0, sample=4), raw("x", 1)])
    summary = stage.sample(settings, io)
    rows = list(jsonio.read_jsonl(io.out / "teacher_samples.jsonl"))
    assert [(r["sample_id"], r["gold_label"], r["pred_label"]) for r in rows] == [
        ("a_k4", 1, 0),
        ("c_k0", 1, 1),
    ]
    assert rows[0]["text"] == TEXTS[0].text
    assert rows[0].keys() >= {
        "example_id", "split", "k_index", "raw_output", "parse_ok", "parse_source", "reasoning", "error",
    }  # fmt: skip
    assert (io.out / "rulebook.txt").read_text() == "## a.txt\nR1 one\n"
    assert jsonio.read_json(io.out / "rule_files.json") == ["a.txt"]
    assert jsonio.read_json(io.out / "sample_summary.json") == summary
    assert (summary["examples"], summary["missing"], summary["unknown_ids"]) == (3, 1, 1)
    assert summary["missing_by_label"] == {"0": 1, "1": 0}
    assert summary["missing_ids"] == ["b"]
    assert summary["notices"] == [
        "1 of 3 texts of train have no answer (0 positive, 1 negative)",
        "answers to 1 texts that are not in train were left aside",
    ]


def test_written_answers_are_read_back_equal(tmp_path: Path) -> None:
    more = {"finish_reason": "stop", "temperature": 0.5, "hinted": True, "model": "m"}
    settings, io = prepare(
        tmp_path, [raw("a", 0, **more), raw("a", 1, sample=1), {"id": "c", "raw_output": "?"}]
    )
    stage.sample(settings, io)
    read = {a.example.id: a for a in read_samples(io.out / "teacher_samples.jsonl")}
    given = {
        a.example.id: a for a in stage.open_teacher(settings).answers(TEXTS, 3, io.progress) if a.answers
    }
    assert read == given
    assert read["a"].answers[0].hinted
    assert read["c"].answers[0].error == "no_label"


def test_gold_teacher_answers_every_text_without_a_reason(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [], kind="gold")
    summary = stage.sample(settings, io)
    rows = list(jsonio.read_jsonl(io.out / "teacher_samples.jsonl"))
    assert [(r["pred_label"], r["reasoning"], r["parse_source"]) for r in rows] == [
        (1, "", "gold"), (0, "", "gold"), (1, "", "gold"),
    ]  # fmt: skip
    assert (summary["teacher_model"], summary["missing"]) == ("gold", 0)


def test_live_teacher_needs_a_journal(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [], kind="openai")
    with pytest.raises(ValueError, match="a live teacher needs a journal"):
        stage.sample(settings, io)


def test_answers_to_other_texts_are_rejected_with_an_id_of_each_side(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [raw("fpb-1", 1)])
    with pytest.raises(AnswersError, match="answers none of the 3 texts of train: its ids look like 'fpb-1'"):
        stage.sample(settings, io)


def test_too_many_missing_answers_stop_the_run(tmp_path: Path) -> None:
    settings, io = prepare(tmp_path, [raw("a", 1)], max_missing=1)
    with pytest.raises(AnswersError) as e:
        stage.sample(settings, io)
    assert str(e.value) == (
        f"2 of 3 texts of train have no answer in {tmp_path}/answers.jsonl (b, c); "
        "teacher.max_missing allows 1: record them, or raise it"
    )


def test_key_depends_on_answers_rules_and_teacher_templates_only(tmp_path: Path) -> None:
    settings, _ = prepare(tmp_path, [raw("a", 1)])
    before = stage.content(settings)
    (tmp_path / "prompts.yaml").write_text(PROMPTS.replace("student_user: '", "student_user: 'Text: "))
    assert stage.content(settings) == before
    for name, text in (
        ("prompts.yaml", PROMPTS.replace("teacher_user: '", "teacher_user: 'Text: ")),
        ("rules/a.txt", "R1 two"),
        ("answers.jsonl", json.dumps(raw("a", 0))),
    ):
        (tmp_path / name).write_text(text)
    after = stage.content(settings)
    assert all(after[name] != before[name] for name in ("prompts.file", "rules.dir", "teacher.answers"))
    assert str(tmp_path) not in json.dumps(key_fields(settings))


@pytest.mark.parametrize(("keep", "only_failed"), [(1, True), (2, False), (3, False)])
def test_agreement_is_marked_biased_if_one_right_answer_ends_the_attempts(
    tmp_path: Path, keep: int, only_failed: bool
) -> None:
    settings, io = prepare(tmp_path, [raw("a", 1), raw("a", 0, sample=1)], attempts=3, keep=keep)
    found = stage.sample(settings, io)["agreement"]
    assert found["only_texts_whose_first_answer_failed"] is only_failed
