"""Partial runs build and publish their stages, or name a missing input before any work."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.config.loading import load
from core.errors import UnderstudyError, UserError
from core.pipeline.run import describe_plan, run
from core.pipeline.runners import SWITCHES, switches
from tests.pipeline.running import LABELS_ONLY, copied, folder_of
from tests.small_project import write_project

FILES = {
    "split": ["data_splits/train.csv", "data_splits/val.csv", "data_splits/test.csv", "split_summary.json"],
    "sample": ["teacher_phase/teacher_samples.jsonl", "teacher_phase/rulebook.txt"],
    "reject": [
        "teacher_phase/accepted_samples.jsonl",
        "teacher_phase/rejected_samples.jsonl",
        "teacher_phase/hard_examples.jsonl",
        "teacher_phase/teacher_summary.json",
        "data_splits/train_with_hard_tag.csv",
    ],
    "encode": ["student_phase/train_sft.jsonl", "student_phase/encode_summary.json"],
    "train": ["student_phase/train_history.jsonl"],
    "evaluate": [
        "student_phase/eval_history.jsonl",
        "student_phase/metrics_val_step_0.json",
        "student_phase/metrics_val_step_2.json",
    ],
    "export": [
        "student_phase/test.json",
        "student_phase/decision.json",
        "student_phase/analysis.json",
        "student_phase/bundle/bundle.json",
        "baseline_phase/baselines.json",
        "ledger.json",
        "report.html",
        "test_report.md",
        "run_summary.json",
    ],
}
"""By stage, files that docs/run_folder.md lists."""
PAIRS = list(itertools.pairwise(SWITCHES))


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a run: its exit code, its message, and the files of its folder."""

    code: int
    message: str
    files: frozenset[str]


def started(config: Path, *overrides: str, only: Sequence[str] = (), skip: Sequence[str] = ()) -> Ended:
    """A run of some stages, in this process, in the config's folder."""
    code, message = 0, ""
    with chdir(config.parent):
        resolved = load(config, [*LABELS_ONLY, *overrides])
        try:
            run(resolved, only=only, skip=skip)
        except UnderstudyError as e:
            code, message = e.exit_code, str(e)
    folder = folder_of(config)
    return Ended(code, message, frozenset(p.relative_to(folder).as_posix() for p in folder.rglob("*")))


def without_files(config: Path) -> None:
    """Remove the published files except the record of stages and the config."""
    for path in folder_of(config).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("stages.json", "resolved_config.yaml"):
            path.unlink()


def published(last: str) -> set[str]:
    """The files that a run up to this stage publishes."""
    return {file for name in SWITCHES[: SWITCHES.index(last) + 1] for file in FILES[name]}


def unpublished(last: str) -> set[str]:
    return {file for name in SWITCHES[SWITCHES.index(last) + 1 :] for file in FILES[name]}


def made(config: Path) -> bool:
    return any((config.parent / "out/objects").glob("*/*.json"))


@pytest.fixture(scope="module")
def one_by_one(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Ended]]:
    """A run built stage by stage, each by --only in its own command, and how each ended."""
    config = write_project(tmp_path_factory.mktemp("partial"), tiny_model)
    return config, {name: started(config, only=[name]) for name in SWITCHES}


@pytest.fixture(scope="module")
def whole(one_by_one: tuple[Path, dict[str, Ended]]) -> Path:
    return one_by_one[0]


@pytest.fixture
def new(tmp_path: Path, tiny_model: Path) -> Path:
    """The project before any run."""
    return write_project(tmp_path, tiny_model)


@pytest.mark.parametrize("name", SWITCHES)
def test_each_stage_alone_is_built_and_published(
    one_by_one: tuple[Path, dict[str, Ended]], name: str
) -> None:
    config, ended = one_by_one
    assert (ended[name].code, ended[name].message) == (0, "")
    assert published(name) <= ended[name].files
    assert not unpublished(name) & ended[name].files
    assert (config.parent / "out/model/latest.json").exists()


@pytest.mark.parametrize("name", SWITCHES)
def test_one_stage_on_a_new_root_is_built_or_names_its_missing_input(new: Path, name: str) -> None:
    ended = started(new, only=[name])
    if name == "split":
        assert ended.code == 0
        return
    assert ended.code == 2
    assert "run small has no data_splits/train.csv" in ended.message
    assert not made(new)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_stages_on_a_new_root(new: Path, pair: tuple[str, str]) -> None:
    ended = started(new, only=pair)
    if pair[0] == "split":
        assert ended.code == 0
        assert published("sample") <= ended.files
        return
    assert ended.code == 2
    assert "run small has no data_splits/train.csv" in ended.message
    assert not made(new)


@pytest.mark.parametrize(
    ("skipped", "missing"),
    [
        ("split", "data_splits/train.csv"),
        ("sample", "teacher_phase/teacher_samples.jsonl"),
        ("reject", "teacher_phase/accepted_samples.jsonl"),
        ("encode", "student_phase/train_sft.jsonl"),
        ("train", "student_phase/train_history.jsonl"),
        ("evaluate", "student_phase/eval_history.jsonl"),
    ],
)
def test_a_skipped_stage_on_a_new_root_names_its_file_before_any_work(
    new: Path, skipped: str, missing: str
) -> None:
    ended = started(new, skip=[skipped])
    assert ended.code == 2
    assert f"stage {skipped} is switched off, and run small has no {missing}" in ended.message
    assert not made(new)


def test_a_run_without_export_is_trained_and_measured(new: Path) -> None:
    ended = started(new, skip=["export"])
    assert ended.code == 0
    assert published("evaluate") <= ended.files
    assert not (new.parent / "out/model").exists()


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_stages_of_a_finished_run_publish_their_files_again(whole: Path, pair: tuple[str, str]) -> None:
    without_files(whole)
    ended = started(whole, only=pair)
    assert (ended.code, ended.message) == (0, "")
    assert published(pair[1]) <= ended.files
    assert not unpublished(pair[1]) & ended.files


@pytest.mark.parametrize("name", SWITCHES)
def test_a_skipped_stage_of_a_finished_run_is_reused(whole: Path, name: str) -> None:
    without_files(whole)
    ended = started(whole, skip=[name])
    assert (ended.code, ended.message) == (0, "")
    assert published("evaluate" if name == "export" else "export") <= ended.files


@pytest.mark.parametrize(
    ("slot", "chosen"),
    [
        ("sample", {"only": ["encode"]}),
        ("reject", {"only": ["encode"]}),
        ("train/2", {"only": ["evaluate"]}),
        ("evaluate/2", {"only": ["export"]}),
        ("evaluate/0", {"skip": ["evaluate"]}),
    ],
)
def test_a_missing_result_is_named_before_any_work(
    whole: Path, tmp_path: Path, slot: str, chosen: dict[str, Any]
) -> None:
    config = copied(whole, tmp_path)
    record = folder_of(config) / "stages.json"
    stages = json.loads(record.read_text())
    gone = stages[slot]["key"]
    shutil.rmtree(tmp_path / f"out/objects/{slot.partition('/')[0]}/{gone}")
    without_files(config)
    ended = started(config, **chosen)
    assert ended.code == 2
    assert f"run small: the {slot} it used (key {gone[:12]})" in ended.message
    assert not any(file.startswith(("data_splits", "teacher_phase")) for file in ended.files)


def test_early_stopping_needs_the_evaluations_of_a_run_that_only_trains(whole: Path, new: Path) -> None:
    stopping = "evaluation.early_stopping={patience: 3}"
    for only in (["split"], ["sample"], ["reject", "encode"]):
        assert started(new, stopping, only=only).code == 0
    ended = started(new, stopping, only=["train"])
    assert ended.code == 2
    assert "student_phase/eval_history.jsonl" in ended.message
    assert started(new, stopping, only=["train", "evaluate"]).code == 0
    assert started(new, stopping, only=["train"]).code == 0


def test_a_run_without_stages_is_rejected(new: Path) -> None:
    with pytest.raises(UserError, match="no stage is left"):
        switches(load(new).config.stages, only=["split"], skip=["split"])


@pytest.mark.parametrize("name", SWITCHES)
def test_a_plan_lists_each_stage_of_a_partial_run(whole: Path, name: str) -> None:
    with chdir(whole.parent):
        resolved = load(whole, list(LABELS_ONLY))
        plan = describe_plan(resolved, switches(resolved.config.stages, only=[name]))
    lines = dict(line.split(None, 1) for line in plan.split("\n\n")[1].splitlines())
    for i, stage in enumerate(SWITCHES):
        found = [what for slot, what in lines.items() if slot.partition("/")[0] == stage]
        if i < SWITCHES.index(name):
            assert all(what.startswith("off: takes what was built") for what in found), plan
        elif stage == name:
            assert all(what.startswith("reuse") for what in found), plan
        else:
            assert found == ["off"], plan
        assert found
