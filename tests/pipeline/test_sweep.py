"""A sweep builds shared stages once, survives failed arms, and compares its arms on the same rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.errors import StageError
from core.pipeline.run import describe_sweep
from core.store import RunView, Store, pointers
from core.store.run_view import find_test_reads
from core.summary.sweep_arms import load_sweep
from tests.pipeline.running import LABELS_ONLY, ONE_PROMPT, sweep
from tests.small_project import texts, write_project

pytestmark = pytest.mark.integration

ARMS = {
    "label_only": ["student.target=label_only"],
    "label_first": ["student.target=label_first"],
    "reason_first": ["student.target=reason_first", "evaluation.max_new_tokens=8"],
    "shuffled": ["student.target=label_first", "student.rationales=shuffled"],
}


SHORT = (*ONE_PROMPT, "student.steps=2", "evaluation.metric=log_loss")
"""By log loss, training is better than no training in all arms, so their students differ."""


def written(project: Path, arms: dict[str, list[str]]) -> Path:
    path = project.parent / "sweep.yaml"
    path.write_text(json.dumps({"base": "small.yaml", "arms": arms}))
    return path


def tell_apart(project: Path) -> None:
    """Make the small project's rationales, which read alike, quote the last words of their texts."""
    quoted = {id_: " ".join(text.split()[-5:]) for id_, text, _ in texts()}
    rows = [
        {"id": id_, "reasoning": f'What decides is "{quoted[id_]}" [R{2 - label}].', "label": label}
        for id_, _, label in texts()
    ]
    (project.parent / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def carry_out(project: Path, arms: dict[str, list[str]], *overrides: str) -> Path:
    """The sweep's folder."""
    return sweep(written(project, arms), *overrides)


def made(store: Store) -> Counter[str]:
    """The number of objects of each stage."""
    return Counter(f.path.split("/")[1] for f in store.backend.list("objects") if f.path.count("/") == 2)


def values(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = jsonio.read_json(folder / "sweep.json")
    return found


@pytest.fixture(scope="module")
def root(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a sweep of all four arms, which no test changes."""
    folder = tmp_path_factory.mktemp("sweep").resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project = write_project(folder, tiny_model)
        tell_apart(project)
        where = carry_out(project, ARMS, *SHORT)
        assert where.resolve() == folder / "out/sweeps/sweep"
    return folder / "out"


def learned(root: Path, run: str) -> list[dict[str, Any]]:
    return list(jsonio.read_jsonl(root / "runs" / run / "student_phase/train_sft.jsonl"))


def test_four_arms_share_equal_stages_and_are_compared_in_one_report(root: Path) -> None:
    store, folder = Store.at(str(root)), root / "sweeps/sweep"
    counts = made(store)
    assert {stage: counts[stage] for stage in ("split", "sample", "reject", "baseline")} == {
        "split": 1,
        "sample": 1,
        "reject": 1,
        "baseline": 1,
    }
    assert counts["encode"] == 4
    stages = RunView(store, "small-shuffled").stages()
    assert stages["evaluate/0"].reused, "the untrained model is asked what label_first's was"
    assert not stages["evaluate/2"].reused

    found = values(folder)
    assert found["finished"] == list(ARMS)
    assert found["recommended"] in ("label_only", "label_first", "reason_first"), "a control is not"
    assert [c["a"] for c in found["test"]["comparisons"]] == ["label_only"] * 3
    assert [c["b"] for c in found["test"]["comparisons"]] == ["label_first", "reason_first", "shuffled"]
    assert {c["a"] for c in found["val"]["comparisons"]} == {found["recommended"]}
    for name in ARMS:  # the figures are those of the arms' own reports
        own = jsonio.read_json(root / f"runs/small-{name}/student_phase/analysis.json")
        mine = found["test"]["scorers"][name]
        assert mine["metrics"] == own["scorers"]["student"]["metrics"]

    parts = RunView(store, "small-label_only").earlier("split", file="")
    assert len(find_test_reads(store, parts)) == 4
    report = (folder / "sweep_report.md").read_text()
    assert "Test was read once for each of 4 arms" in report
    assert "test-set selection" in report
    page = (folder / "sweep_report.html").read_text()
    assert "<!doctype html>" in page.lower()
    assert "Report of a sweep" in page
    assert pointers.read(store) is None, "nothing of a sweep is the latest model"


def test_every_arms_student_learns_without_the_teachers_rulebook(root: Path) -> None:
    for name in ARMS:
        folder = root / f"runs/small-{name}"
        rules = (folder / "teacher_phase/rulebook.txt").read_text()
        assert "Prizes nobody asked for" in rules
        shown = [
            m["content"]
            for row in learned(root, f"small-{name}")
            for m in row["messages"]
            if m["role"] != "assistant"
        ]
        assert shown
        assert not any("Prizes nobody asked for" in text for text in shown)
        report = (folder / "test_report.md").read_text()
        assert "no: what the rules ask has to be learned" in report
        assert "context distillation" in report


def test_the_control_arm_learns_other_texts_rationales_with_its_labels(root: Path) -> None:
    own = {row["sample_id"]: row for row in learned(root, "small-label_first")}
    other = {row["sample_id"]: row for row in learned(root, "small-shuffled")}
    label_of = {sample: row["label"] for sample, row in own.items()}
    assert own.keys() == other.keys()
    assert all(row["rationale_of"] == sample for sample, row in own.items())
    assert all(row["rationale_of"] != sample for sample, row in other.items())
    assert all(label_of[row["rationale_of"]] == row["label"] == label_of[s] for s, row in other.items())
    summary = jsonio.read_json(root / "runs/small-shuffled/student_phase/encode_summary.json")
    assert summary["rationales"]["kind"] == "shuffled"
    assert summary["rationales"]["own"] == 0
    assert summary["rationales"]["same_words"] < summary["rationales"]["samples"]
    assert "as a control; 0 of" in (root / "runs/small-shuffled/test_report.md").read_text()


def test_an_arm_that_fails_is_reported_at_the_end_and_the_same_command_continues(project: Path) -> None:
    store = Store.at(str(project.parent / "out"))
    arms = {"fails": ["student.model=elsewhere"], "ends": ["student.steps=2"]}
    with pytest.raises(StageError, match=r"1 of 2 arms did not finish.*\narm fails: .*elsewhere"):
        carry_out(project, arms, *LABELS_ONLY)
    found = values(Path("out/sweeps/sweep"))
    assert found["finished"] == ["ends"]
    assert "elsewhere" in found["left"]["fails"]

    before = made(store)
    (project.parent / "elsewhere").symlink_to(
        load_sweep(written(project, arms)).arms[1].resolved.config.student.model
    )
    folder = carry_out(project, arms, *LABELS_ONLY)
    assert values(folder)["finished"] == ["fails", "ends"]
    after = made(store)
    assert after["split"] == before["split"] == 1
    assert all(entry.reused for entry in RunView(store, "small-ends").stages().values())


def test_the_plan_marks_objects_of_earlier_arms(project: Path) -> None:
    arms = {"short": ["student.steps=2"], "long": ["student.steps=4"]}
    plan = describe_sweep(load_sweep(written(project, arms), LABELS_ONLY))
    assert "arm short, run small-short: student.steps=2" in plan
    assert "split     run: not made before" in plan
    assert "split     reuse, once arm short has built it" in plan


def test_the_plan_of_a_finished_sweep_reuses_everything(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    plan = describe_sweep(load_sweep(root.parent / "sweep.yaml", SHORT))
    assert "run: " not in plan
    assert plan.count("encode ") == len(ARMS)
