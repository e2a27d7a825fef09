"""Reinforcement: from a published student or the base model, measured and published."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from core.config.loading import load
from core.errors import MissingInputError, UserError
from core.pipeline.run import describe_reinforcement
from core.store import Store
from tests.conftest import AnsweringModel
from tests.pipeline.running import REINFORCED, copied, folder_of, objects, reinforce, run
from tests.small_project import write_project

pytestmark = pytest.mark.integration

ON_TEST = ("export.splits=[test]",)
FILES = [
    "reinforce.json",
    "rl_history.jsonl",
    "rollouts.jsonl",
    "val_rewards.jsonl",
    "eval_history.jsonl",
    "metrics_val_step_0.json",
    "metrics_val_step_3.json",
    "metrics_val_step_6.json",
    "train.json",
    "val.json",
    "test.json",
    "metrics_train.json",
    "metrics_val.json",
    "metrics_test.json",
    "manifest.json",
    "decision.json",
    "analysis.json",
    "learning_curve.png",
    "rl_report.md",
    "report.html",
    "ledger.json",
    "rl_summary.json",
    "bundle/bundle.json",
]


@pytest.fixture
def project(tmp_path: Path, answering_model: AnsweringModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project with a model that answers in the right format, at random."""
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path, answering_model("label_only"))


@pytest.fixture(scope="module")
def student_once(answering_model: AnsweringModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of that project with its student, which no test changes."""
    config = write_project(tmp_path_factory.mktemp("student"), answering_model("label_only"))
    with chdir(config.parent):
        run(config, *REINFORCED)
    return config


@pytest.fixture(scope="module")
def reinforced_once(student_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of that project with its reinforced student, which no test changes."""
    config = copied(student_once, tmp_path_factory.mktemp("reinforced"))
    with chdir(config.parent):
        reinforce(config, *REINFORCED)
    return config


@pytest.fixture
def student(student_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project with its student, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return copied(student_once, tmp_path)


@pytest.fixture
def reinforced(reinforced_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project with its reinforced student, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return copied(reinforced_once, tmp_path)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def value(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_reinforcement_writes_every_documented_file_with_correct_contents(
    student_once: Path, reinforced: Path
) -> None:
    student, folder = folder_of(reinforced), folder_of(reinforced) / "rl_phase"
    assert [name for name in FILES if not (folder / name).is_file()] == []
    before = folder_of(student_once) / "student_phase"
    for path in before.iterdir():
        assert path.is_dir() or path.read_bytes() == (student / "student_phase" / path.name).read_bytes()

    history = rows(folder / "rl_history.jsonl")
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert all(row["seconds"] >= 0 for row in history)
    curve = rows(folder / "eval_history.jsonl")
    assert [row["step"] for row in curve] == [0, 3, 6]
    assert [row["step"] for row in rows(folder / "val_rewards.jsonl")] == [0, 3, 6]
    start = value(student / "run_summary.json")["best_step"]
    assert value(folder / "reinforce.json")["start"]["step"] == start
    same = value(student / f"student_phase/metrics_val_step_{start}.json")["metrics"]
    assert curve[0]["metrics"] == same, "step 0 is the student that was published"

    summary = value(folder / "rl_summary.json")
    chosen = min(curve, key=lambda row: (row["metrics"]["log_loss"], row["step"]))
    assert summary["best_step"] == chosen["step"]
    assert summary["groups_skipped"] == sum(row["groups_skipped"] for row in history)
    kept = [row for row in rows(folder / "rollouts.jsonl") if row["step"] == 1]
    assert len(kept) == 8
    assert len({row["example_id"] for row in kept}) == 2
    assert "NaN" not in "".join(p.read_text() for p in folder.rglob("*.json*"))


def test_its_pointer_names_existing_files_and_keeps_the_students_pointer(
    student_once: Path, reinforced: Path
) -> None:
    root, folder = reinforced.parent / "out", folder_of(reinforced) / "rl_phase"
    latest = (student_once.parent / "out/model/latest.json").read_bytes()
    assert (root / "model/latest.json").read_bytes() == latest
    pointer, own = value(root / "model/rl_latest.json"), value(root / "model/small-rl.json")
    assert {k: v for k, v in pointer.items() if k != "history"} == {
        k: v for k, v in own.items() if k != "history"
    }
    summary = value(folder / "rl_summary.json")
    assert pointer["best_step"] == summary["best_step"]
    assert pointer["best_model_path"] == summary["best_model_path"]
    assert (root / pointer["best_model_path"] / "adapter_model.safetensors").is_file()
    assert (root / pointer["final_state_path"] / "optimizer.safetensors").is_file()
    assert (root / pointer["metrics_path"]).is_file()
    card = (root / pointer["bundle_path"] / "README.md").read_text()
    assert "It learned from rewards for its own answers to the texts of train" in card
    with pytest.raises(UserError, match=r"model/rl_latest\.json is of a student that was reinforced already"):
        reinforce(reinforced, *REINFORCED, start="rl_latest", replace=True)


def test_repeating_it_builds_nothing_and_keeps_the_students_record(reinforced: Path) -> None:
    root, folder = reinforced.parent / "out", folder_of(reinforced) / "rl_phase"
    made = objects(root)
    report = (folder / "test.json").read_bytes()
    assert reinforce(reinforced, *REINFORCED) == folder
    run(reinforced, *REINFORCED)
    assert objects(root) == made
    assert (folder / "test.json").read_bytes() == report
    stages = value(folder.parent / "stages.json")
    assert {"reinforce/3", "reinforce/6", "evaluate/rl/0", "reward/rl/6", "train/2"} <= stages.keys()


def test_it_is_compared_with_its_start_on_the_same_rows(project: Path) -> None:
    folder = reinforce(project, *REINFORCED, "reinforce.steps=30", "reinforce.interval=15", start="base")
    summary, report = value(folder / "rl_summary.json"), (folder / "rl_report.md").read_text()
    assert summary["best_step"] > 0
    assert set(summary["compared"]) >= {"untrained", "majority"}
    assert "## Learning from rewards" in report
    assert "It started from the base model and took 30 steps: 464 answers in 116 groups" in report
    assert "Step 0 is the base model" in report
    assert "the student beats" in report or "no difference is shown" in report
    page = (folder / "report.html").read_text()
    assert "Learning from rewards" in page
    rewards = summary["val_reward"]
    assert rewards["30"] > rewards["0"]


def test_early_stopping_ends_it_and_is_logged(project: Path) -> None:
    """A learning rate near zero changes nothing."""
    settings = (
        "reinforce.learning_rate=1e-12",
        "reinforce.early_stopping={patience: 1, min_delta: 0.01}",
        "reinforce.interval=2",
    )
    folder = reinforce(project, *REINFORCED, *ON_TEST, *settings, start="base")
    assert [row["step"] for row in rows(folder / "eval_history.jsonl")] == [0, 2]
    assert "2 steps of 6 planned" in (folder / "rl_report.md").read_text()


def test_other_settings_do_not_mix_with_existing_files(project: Path) -> None:
    settings = (*REINFORCED, *ON_TEST, "reinforce.steps=2", "reinforce.interval=2")
    folder = reinforce(project, *settings, start="base")
    with pytest.raises(UserError, match=r"reinforce\.group_size: 4 -> 5.*add --replace"):
        reinforce(project, *settings, "reinforce.group_size=5", start="base")
    assert value(folder / "reinforce.json")["reinforce"]["group_size"] == 4
    other = ("reinforce.steps=1", "reinforce.interval=1", "reinforce.group_size=5")
    reinforce(project, *settings, *other, start="base", replace=True)
    assert [row["step"] for row in rows(folder / "eval_history.jsonl")] == [0, 1]
    assert not (folder / "metrics_val_step_2.json").exists()


def test_without_a_student_to_start_from_the_error_has_a_remedy(project: Path) -> None:
    with pytest.raises(MissingInputError, match=r"run small has no student: .*--from base"):
        reinforce(project, *REINFORCED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "student.lora.rank=4",
            r"its LoRA adapter \(student\.lora\) is another, here it is not that: rank: 2 -> 4",
        ),
        ("student.target=label_first", r"its student\.target is label_only, here it is label_first"),
        ("data.sizes={train: 0.6, val: 0.2, test: 0.2}", "its split of the data"),
        ("student.rulebook=true", r"its student\.rulebook is False, here it is True"),
    ],
)
def test_a_student_that_does_not_fit_is_rejected(student: Path, change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reinforce(student, *REINFORCED, change, "run.name=other", start="small")


def test_the_plan_of_a_new_project_asks_for_the_split(project: Path) -> None:
    assert "not split yet" in describe_reinforcement(load(project, list(REINFORCED)), "base")


def test_the_plan_counts_answers_and_tokens_and_builds_nothing(student: Path) -> None:
    resolved = load(student, list(REINFORCED))
    store = Store.open(str(student.parent / "out"))
    before = [found.path for found in store.backend.list("")]
    text = describe_reinforcement(resolved, None)
    assert "from the student of run small, step" in text
    assert "6 steps of 4 texts, 4 answers each: 96 answers of up to 12 tokens" in text
    assert "on val 3 evaluations" in text
    assert [found.path for found in store.backend.list("")] == before


def test_a_run_killed_after_a_segment_ends_with_the_same_student(
    student: Path, reinforced_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in the middle of its second segment, as by a signal."""
    from core.rl import stages

    sampled: list[int] = []
    real = stages.Trainer._learn

    def dying(self: Any, step: Any, *given: Any) -> Any:
        sampled.append(step.step)
        if len(sampled) == 5:
            raise KeyboardInterrupt
        return real(self, step, *given)

    monkeypatch.setattr(stages.Trainer, "_learn", dying)
    with pytest.raises(KeyboardInterrupt):
        reinforce(student, *REINFORCED)
    assert value(folder_of(student) / "run_state.json")["state"] == "stopped"
    monkeypatch.undo()
    monkeypatch.chdir(student.parent)
    whole, again = folder_of(reinforced_once) / "rl_phase", reinforce(student, *REINFORCED)
    digests = [
        {slot: entry["digest"] for slot, entry in value(folder.parent / "stages.json").items()}
        for folder in (whole, again)
    ]
    assert digests[0] == digests[1]
    assert (again / "test.json").read_bytes() == (whole / "test.json").read_bytes()
