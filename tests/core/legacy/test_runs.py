"""The predecessor's run folders: answers for a teacher, texts as data, metrics in tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import DataConfig, PromptsConfig, RulesConfig, TeacherConfig
from core.config.loading import load
from core.data.labeled_rows import read
from core.errors import AnswersError, UserError
from core.pipeline.opening import claim, run_config
from core.records import Example, text_id, write_examples
from core.stage import StageIO
from core.store import RunView, Store, pointers
from core.summary.run_records import list_runs, remove_run
from core.summary.summarize import collect
from core.teacher import stage as sample_stage
from core.teacher.samples import read_samples
from tests.core.legacy.olden import metrics, write_run
from tests.small_project import texts, write_project

LATER = pytest.mark.parametrize("later", [False, True], ids=["first version", "later version"])


def examples(*, ids: Callable[[str, str], str] = lambda name, text: text_id(text)) -> list[Example]:
    return [Example(ids(name, text), text, label) for name, text, label in texts()[:36]]


def sampled(folder: Path, answers: Path, train: list[Example]) -> tuple[dict[str, Any], list[Any]]:
    """The sample stage over a file or folder of answers: its summary, and what it wrote."""
    for name in ("split", "rules", "out"):
        (folder / name).mkdir(exist_ok=True)
    write_examples(folder / "split/train.csv", train)
    (folder / "rules/a.txt").write_text("R1 one\nR2 two")
    (folder / "p.yaml").write_text(
        "task_instruction: T\nteacher_user: '{{ text }}'\nstudent_user: '{{ text }}'"
    )
    part = sample_stage.SampleSettings(
        teacher=TeacherConfig(answers=str(answers)),
        rules=RulesConfig(dir=str(folder / "rules")),
        prompts=PromptsConfig(file=str(folder / "p.yaml")),
    )
    summary = sample_stage.sample(part, StageIO({"split": folder / "split"}, folder / "out"))
    return summary, list(read_samples(folder / "out/teacher_samples.jsonl"))


@LATER
@pytest.mark.parametrize("place", ["", "teacher_phase", "teacher_phase/teacher_samples.jsonl"])
def test_all_answers_of_a_run_are_found_by_their_texts(tmp_path: Path, place: str, later: bool) -> None:
    run = write_run(tmp_path / "tinker", later=later)
    summary, found = sampled(tmp_path, run / place, examples())
    assert (summary["answered"], summary["missing"], summary["answers"]) == (36, 0, 40)
    assert summary["first_answers"]["fn"] + summary["first_answers"]["fp"] == 4
    assert summary["parse_errors"] == {}
    assert summary["notices"] == []
    assert summary["teacher_model"] == ("unnamed" if place.endswith("jsonl") else "deepseek-chat")
    assert [a.sample for a in found[0].answers] == [0, 1]
    assert all(a.reasoning.startswith('The words "') and a.reasoning.endswith("].") for a in found[9].answers)


@LATER
def test_accepted_answers_alone_suffice(tmp_path: Path, later: bool) -> None:
    run = write_run(tmp_path / "tinker", later=later)
    accepted = run / "teacher_phase/accepted_samples.jsonl"
    alone = sampled(tmp_path, accepted, examples())
    (run / "teacher_phase/teacher_samples.jsonl").unlink()
    summary, found = sampled(tmp_path, run, examples())
    assert found == alone[1] or summary["teacher_model"] != alone[0]["teacher_model"]
    assert (summary["answered"], summary["missing"], summary["parse_sources"]) == (32, 4, {"fields": 32})
    assert {a.label == f.example.label for f in found for a in f.answers} == {True}
    assert "<think>" not in json.dumps([a.reasoning for f in found for a in f.answers])


def test_texts_with_custom_ids_are_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tinker")
    summary, found = sampled(tmp_path, run, examples(ids=lambda name, text: name))
    assert (summary["answered"], found[0].example.id) == (36, "t00")


def test_text_sampled_twice_has_all_its_answers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tinker", wrong=1)
    path = run / "teacher_phase/teacher_samples.jsonl"
    rows = list(jsonio.read_jsonl(path))
    again = [{**row, "example_id": "train_99"} for row in rows if row["example_id"] == "train_0"]
    jsonio.write_jsonl(path, [*rows, *again])
    summary, found = sampled(tmp_path, run, examples())
    assert summary["recorded_answers"] == 39
    assert [a.sample for a in found[0].answers] == [0, 1, 2]


def test_samples_of_this_project_are_valid_answers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tinker")
    _, first = sampled(tmp_path, run, examples())
    kept = tmp_path / "kept/teacher_phase"
    kept.mkdir(parents=True)
    (tmp_path / "out/teacher_samples.jsonl").rename(kept / "teacher_samples.jsonl")
    _, again = sampled(tmp_path, tmp_path / "kept", examples())
    assert again == first


def test_answers_to_other_texts_are_rejected_with_an_example_of_each_side(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tinker")
    with pytest.raises(AnswersError) as e:
        sampled(tmp_path, run, [Example("a", "Quite another text", 1)])
    assert "its texts look like 'You have won prize number" in str(e.value)
    assert "those of train like 'Quite another text'; name the right run" in str(e.value)


@pytest.mark.parametrize("make", ["folder", "empty file", "broken line"])
def test_folder_without_answers_is_rejected(tmp_path: Path, make: str) -> None:
    run = tmp_path / "runs/x"
    (run / "teacher_phase").mkdir(parents=True)
    message = (
        "is a folder without teacher_phase/teacher_samples.jsonl or teacher_phase/accepted_samples.jsonl"
    )
    if make != "folder":
        text = "" if make == "empty file" else '{"text": "x", "raw_output": \n'
        (run / "teacher_phase/accepted_samples.jsonl").write_text(text)
        message = {
            "empty file": "accepted_samples.jsonl contains no answers",
            "broken line": "jsonl:1: not JSON",
        }[make]
    with pytest.raises(AnswersError, match=message):
        sampled(tmp_path, run, examples())


def test_predecessors_splits_are_valid_data(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tinker")
    (run / "data_splits/train_with_hard_tag.csv").write_text("text,label,hard,example_id\n")
    rows = read(DataConfig(dir=str(run / "data_splits"))).rows
    assert [(r.example.id, r.split) for r in rows[:36]] == [(e.id, "train") for e in examples()]
    assert len(rows) == 60


def test_predecessors_runs_are_listed_with_our_runs(tmp_path: Path) -> None:
    for name, later in (("sft_20250102_030405", False), ("sft_20250203_040506", True)):
        run = write_run(tmp_path, name, later=later)
    (run / "student_phase/metrics_val.json").write_text('{"split": "va')
    (run / "student_phase/metrics_test.json").write_text(json.dumps(metrics("test", run, auroc=0.5)))
    found = collect(Store.at(str(tmp_path)))
    assert (found.runs, len(found.rows)) == (2, 11)
    row = next(r for r in found.rows if r.run == run.name and r.split == "test")
    assert (row.file.metrics.macro_f1, row.file.metrics.auroc) == (0.75, 0.5)
    assert (row.facts.engine, row.facts.best_step) == ("tinker", 16)
    why = {p.place.rpartition("/")[2]: p.why for p in found.skipped if run.name in p.place}
    assert why["metrics_val.json"].startswith("not JSON")
    assert why["metrics_train.json"].startswith("contains NaN")
    entry = next(e for e in list_runs(Store.at(str(tmp_path))) if e.name == run.name)
    assert (entry.state, entry.metrics["macro_f1"]) == ("predecessor", 0.75)


def test_run_without_inference_is_summarized_from_its_training_metrics(tmp_path: Path) -> None:
    run = write_run(tmp_path, later=True)
    for path in (run / "student_phase").iterdir():
        path.unlink()
    for split in ("val", "test"):
        content = {**metrics(f"{split}_bestval", run, auroc=0.5), "tag": "bestval"}
        (run / f"student_phase/metrics_{split}_bestval.json").write_text(json.dumps(content))
    (run / "student_phase/metrics_test_final.json").write_text("{}")
    found = collect(Store.at(str(tmp_path)))
    assert [(r.split, r.mode) for r in found.rows] == [
        ("val", "reasoning"),
        ("test", "reasoning"),
    ]
    assert [p.why for p in found.skipped] == [
        "used in place of metrics_test.json, which is missing",
        "used in place of metrics_val.json, which is missing",
    ]
    assert [e.metrics["auroc"] for e in list_runs(Store.at(str(tmp_path)))] == [0.5]


def test_predecessors_run_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(write_project(tmp_path, "model"), ["run.name=old"])
    run = write_run(tmp_path / "out", "old")
    before = (run / "teacher_phase/accepted_samples.jsonl").read_bytes()
    view = RunView(Store.at("out"), "old")
    with pytest.raises(UserError, match="contains data_splits, student_phase, teacher_phase but no"):
        claim(view, config, new=False)
    claim(view, config, new=True)
    (kept,) = (tmp_path / "out/runs").glob("old.*")
    assert (kept / "teacher_phase/accepted_samples.jsonl").read_bytes() == before
    assert [p.name for p in run.rglob("*") if p.is_file()] == ["resolved_config.yaml"]


def test_predecessors_run_is_removed_only_by_force_and_never_collected(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    store = Store.at(str(tmp_path))
    before = sorted(run.rglob("*"))
    pointers.collect(store, pointers.find_garbage(store, 0))
    with pytest.raises(UserError, match="add --force to remove it"):
        remove_run(store, run.name)
    assert sorted(run.rglob("*")) == before
    remove_run(store, run.name, force=True)
    assert not [p for p in run.rglob("*") if p.is_file()]


def test_commands_that_need_a_config_name_the_predecessors_run(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    with pytest.raises(UserError, match=r"has no .*resolved_config.yaml: it is not a run of this project"):
        run_config(RunView(Store.at(str(tmp_path)), run.name))
