"""What is frozen on val and how test is read, on the small project."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import MissingInputError, UserError
from core.evaluation.calibration import Calibrator
from core.pipeline.opening import missing_seeds, run_config, seed_results
from core.store import RunView, Store
from tests.pipeline.running import LABELS_ONLY, ONE_PROMPT, copied, folder_of, run

OUT_OF_REACH = (
    "evaluation.threshold={objective: recall_at_precision, precision: 1.0}",
    "evaluation.calibration={method: platt}",
    "run.name=strict",
)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def made(root: Path, stage: str) -> set[str]:
    return {path.stem for path in (root / "objects" / stage).glob("*.json")}


@pytest.fixture(scope="module")
def strict_once(finished_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project and its run `strict` with another objective, which no test changes."""
    config = copied(finished_once, tmp_path_factory.mktemp("strict"))
    with chdir(config.parent):
        run(config, *OUT_OF_REACH)
    return config


def test_another_objective_reuses_scores_and_is_another_read_of_test(
    finished_once: Path, strict_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, folder = strict_once.parent / "out", folder_of(strict_once)
    for stage in ("export", "train"):
        assert made(root, stage) == made(finished_once.parent / "out", stage)
    strict = folder.with_name("strict")
    decision = read(strict / "student_phase/decision.json")
    assert decision["calibrator"]["kind"] == "platt"
    assert decision["threshold"]["objective"] == "recall_at_precision"
    report = (strict / "test_report.md").read_text()
    assert "largest recall at a precision of at least 1.0" in report
    assert "2 students of 2 runs under this root were measured on this test split" in report
    assert "Who has read test" in (strict / "report.html").read_text()
    assert "2 students of 2 runs" not in (folder / "test_report.md").read_text()
    assert len(list(root.glob("test_reads/*/*.json"))) == 2

    monkeypatch.chdir(tmp_path)
    run(copied(strict_once, tmp_path))  # the same student again
    assert len(list((tmp_path / "out").glob("test_reads/*/*.json"))) == 2


def test_predictions_metrics_manifest_and_pointer_follow_the_decision(strict_once: Path) -> None:
    folder = folder_of(strict_once).with_name("strict")
    frozen = read(folder / "student_phase/decision.json")
    at = frozen["threshold"]["value"]
    test = read(folder / "student_phase/test.json")
    assert all(row["threshold"] == at for row in test)
    expected = [None if at is None else int(row["probability"] >= at) for row in test]
    assert [row["predicted"] for row in test] == expected
    calibrator = Calibrator(**frozen["calibrator"])
    raw = np.array([row["uncalibrated_probability"] for row in test])
    assert [row["probability"] for row in test] == list(calibrator.apply(raw)) != list(raw)

    metrics = read(folder / "student_phase/metrics_test.json")
    analysis = read(folder / "student_phase/analysis.json")
    student = analysis["scorers"]["student"]
    assert metrics["metrics"] == student["metrics"]
    assert metrics["intervals"] == student["intervals"]
    assert (metrics["decision_threshold"], metrics["calibration"]) == (at, "platt")
    assert metrics["decision_threshold_rule"] == "val_recall_at_precision_1"
    assert read(folder / "student_phase/metrics_val.json")["intervals"] == frozen["intervals"]
    assert read(folder / "student_phase/manifest.json")["decision_threshold"] == at

    pointer = read(folder.parents[1] / "model/latest.json")
    assert (pointer["threshold"], pointer["threshold_reason"]) == (at, frozen["threshold"]["reason"])
    assert pointer["calibrator"] == frozen["calibrator"]
    assert read(folder.parents[1] / pointer["decision_path"]) == frozen


def test_scorers_are_compared_on_the_same_rows_at_their_own_thresholds(finished_once: Path) -> None:
    folder = folder_of(finished_once)
    analysis = read(folder / "student_phase/analysis.json")
    assert list(analysis["scorers"]) == [
        "student",
        "label_only",
        "untrained",
        "untrained_rulebook",
        "majority",
        "tfidf_words",
        "tfidf_chars",
    ]
    assert analysis["rows"] == len(read(folder / "student_phase/test.json"))
    assert len(analysis["comparisons"]) == 6
    baselines = read(folder / "baseline_phase/baselines.json")
    for name, scorer in analysis["scorers"].items():
        if scorer["kind"] in ("baseline", "untrained"):
            assert baselines[name]["metrics"]["test"] == scorer["metrics"]
    slots = read(folder / "stages.json")
    assert {f"decide/{name}" for name in ("student/reasoning", "untrained", "tfidf_words")} <= set(slots)


def test_a_label_only_student_of_another_run_is_compared_and_a_wrong_one_rejected(finished: Path) -> None:
    def student(*changes: str) -> Path:
        return run(finished, *changes)

    def label_only(*changes: str, new: bool = False) -> Path:
        return run(finished, *LABELS_ONLY, *changes, new=new)

    labels = label_only("run.name=labels")
    both = student("baselines.label_only_run=labels", "run.name=both")
    scorer = read(both / "student_phase/analysis.json")["scorers"]["label_only_run"]
    other = read(labels / "student_phase/analysis.json")["scorers"]["student"]
    assert (scorer["title"], scorer["kind"]) == ("Label-only student (run labels)", "baseline")
    assert (scorer["metrics"], scorer["intervals"]["auroc"]["value"]) == (
        other["metrics"],
        other["intervals"]["auroc"]["value"],
    )
    with pytest.raises(UserError, match="the student of run both learned label_first, not label_only"):
        student("baselines.label_only_run=both", "run.name=third")
    label_only("run.name=elsewhere", "seed=7")
    with pytest.raises(UserError, match="run elsewhere has another test split"):
        student("baselines.label_only_run=elsewhere", "run.name=third")
    with pytest.raises(MissingInputError, match="nobody"):
        student("baselines.label_only_run=nobody", "run.name=third")
    own_prompt_off = ("export.label_only=true", "export.reasoning=false")
    label_only("run.name=unasked", *own_prompt_off)
    with pytest.raises(UserError, match=r"run unasked has no scores of val; it needs export\.reasoning"):
        student("baselines.label_only_run=unasked", "run.name=third")
    with pytest.raises(UserError, match="names run labels itself"):
        label_only("run.name=labels", "baselines.label_only_run=labels", new=True)
    with pytest.raises(UserError, match="run labels is not finished"):
        student("baselines.label_only_run=labels", "run.name=third")


def test_other_seeds_have_their_own_runs_and_the_report_shows_their_spread(project: Path) -> None:
    folder = run(project, *LABELS_ONLY, "student.seeds=[1, 2, 3]")
    root, name = folder.parents[1], folder.name
    runs = [root / "runs" / each for each in (name, f"{name}-seed2", f"{name}-seed3")]
    trained = [read(each / "stages.json")["train/2"]["digest"] for each in runs]
    assert len(set(trained)) == 3
    split = {read(each / "stages.json")["split"]["digest"] for each in runs}
    assert len(split) == 1
    # The seed to publish is fixed in the config before any of them is measured.
    assert sorted(path.stem for path in (root / "model").glob("*.json")) == ["latest", name]
    assert read(root / "model/latest.json")["run_name"] == name

    report = (folder / "test_report.md").read_text()
    shown = [read(each / "student_phase/metrics_test.json")["metrics"]["auroc"] for each in runs]
    lines = [line for line in report[report.index("## Other seeds") :].splitlines() if "| seed |" not in line]
    for i, each in enumerate(runs):
        assert any(f"`{each.name}`" in line and f"| {i + 1} |" in line for line in lines)
    assert f"{sum(shown) / 3:.3f}" in report[report.index("## Other seeds") :]

    # A run of that name that learned with other settings or from other examples is not a seed of this one.
    view = RunView(Store.open(str(root)), name)
    config, encoded = run_config(view).config, view.earlier("encode", file="train_sft.jsonl")
    measured = seed_results(view.store, name, config, encoded, "test", label_only=False)
    assert [result.seed for result in measured] == [2, 3]
    assert missing_seeds(config, measured[:1]) == [
        "Seed 3 was named and not measured yet: the same command continues with the rest."
    ]
    faster = config.model_copy(update={"student": config.student.model_copy(update={"learning_rate": 1.0})})
    other = view.earlier("reject", file="accepted_samples.jsonl")
    assert seed_results(view.store, name, faster, encoded, "test", label_only=False) == []
    assert seed_results(view.store, name, config, other, "test", label_only=False) == []


def test_the_worst_errors_have_reasons_even_if_other_rows_have_none(project: Path) -> None:
    changes = ("student.seeds=[1]", "student.steps=2", "export.reasoning_rows=0", "export.error_rows=2")
    folder = run(project, *ONE_PROMPT, *changes)
    test = read(folder / "student_phase/test.json")
    assert all(row["raw_output"] is None for row in test)
    wrong = {row["example_id"] for row in test if row["predicted"] != row["gold_label"]}
    found = next((project.parent / "out/objects/explain").glob("*/*/explained.jsonl"))
    explained = [json.loads(line) for line in found.read_text().splitlines()]
    assert len(explained) == min(2, len(wrong))
    assert {row["example_id"] for row in explained} <= wrong
    assert all(row["raw_output"] is not None for row in explained)
