"""The analyse stage: all scorers on the same rows, each at its own frozen threshold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core import jsonio
from core.config import METRICS
from core.errors import Part, PartFailed, StageError
from core.evaluation import analysis, baselines
from core.evaluation.analysis import (
    AnalyseSettings,
    Analysis,
    LabelAnalysis,
    ProbabilityAnalysis,
    ScorerSettings,
)
from core.evaluation.decision import DecideSettings, Decision, decide
from core.evaluation.metrics import compute
from core.evaluation.predictions import Generated, Predictions
from core.evaluation.slices import LEAST_ROWS
from core.jsonio import InvalidFile
from core.records import SPLITS, Example, TeacherAnswer, write_examples
from core.stage import StageIO
from core.teacher.samples import sample_row
from tests.core.evaluation.scored import draw

WORDS = ("win a free prize now", "see you at home")


def examples(prefix: str, n: int = 120, *, grouped: bool = False) -> list[Example]:
    positive = draw(n, seed=1).positive
    return [
        Example(
            f"{prefix}{i}",
            f"{WORDS[0 if gold else 1]} number {i}",
            int(gold),
            f"g{i // 4}" if grouped else None,
        )
        for i, gold in enumerate(positive)
    ]


def scored(rows: Sequence[Example], *, apart: float, seed: int = 1) -> Predictions:
    p = draw(len(rows), seed=seed, apart=apart).probability
    generated = [
        Generated("said", f'R{1 + i % 2}: "free prize"', int(q > 0.5)) if i < 30 else Generated()
        for i, q in enumerate(p)
    ]
    return Predictions.of([e.id for e in rows], p, gold=[e.label for e in rows], generated=generated)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Splits, scores of a student and an untrained model on val and test, their decisions, and a teacher."""
    for split in SPLITS:
        write_examples(tmp_path / f"split/{split}.csv", examples(split))
        for who, apart in (("student", 0.5), ("untrained", 0.05)):
            rows = scored(examples(split), apart=apart)
            rows.write(tmp_path / f"{who}_{split}/scores.jsonl")
    for who in ("student", "untrained"):
        inputs = {"split": tmp_path / "split", "scored": tmp_path / f"{who}_val"}
        part = DecideSettings.model_validate({"threshold": {}, "calibration": {"method": "platt"}, "seed": 1})
        decide(part, StageIO(inputs, tmp_path / f"{who}_decision"))
    said = [TeacherAnswer(e.id, 0, "m", "x", True, "json", e.label, "r") for e in examples("test")]
    said[3] = dataclasses.replace(said[3], label=None, parse_ok=False)
    rows_of = [sample_row(e, a, split="test") for e, a in zip(examples("test"), said, strict=True)]
    jsonio.write_jsonl(tmp_path / "teacher/teacher_samples.jsonl", rows_of)
    return tmp_path


STUDENT = ScorerSettings(
    name="student", title="Student", kind="student", scored="student_test", decision="student_decision"
)
UNTRAINED = ScorerSettings(
    name="untrained",
    title="Untrained",
    kind="untrained",
    scored="untrained_test",
    decision="untrained_decision",
)
TEACHER = ScorerSettings(
    name="teacher",
    title="Teacher",
    kind="teacher",
    scored="teacher",
    file="teacher_samples.jsonl",
    labels_only=True,
)


def analysed(
    folder: Path, *scorers: ScorerSettings, without: tuple[Part, ...] = ()
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    part = AnalyseSettings(
        split="test", scorers=scorers, rule_ids=("R1", "R2"), resamples=400, seed=1, without=without
    )
    summary = analysis.analyse(part, StageIO({p.name: p for p in folder.iterdir()}, folder / "out"))
    return summary, jsonio.read_json(folder / "out/analysis.json")


def test_each_scorer_is_measured_after_calibration_at_its_own_threshold(folder: Path) -> None:
    _, written = analysed(folder, STUDENT, UNTRAINED)
    for who in ("student", "untrained"):
        decision = jsonio.read_json(folder / f"{who}_decision/decision.json")
        of = written["scorers"][who]
        assert of["threshold"] == decision["threshold"]["value"]
        assert of["calibration"] == decision["calibrator"]["kind"]
        assert of["kind"] == who
        assert of["counts"] == {name: of["metrics"][name] for name in ("tp", "fp", "fn", "tn")}
        assert of["metrics"]["decision_threshold"] == of["threshold"]
        for name in METRICS:
            measured = of["metrics"]["F1" if name == "f1" else name]
            assert of["intervals"][name]["value"] == pytest.approx(measured, abs=1e-12)
    raw = compute(scored(examples("test"), apart=0.5), 0.5)
    assert written["scorers"]["student"]["at_default"] == json.loads(json.dumps(raw.to_json()))


def test_the_first_scorer_is_compared_with_each_other_one(folder: Path) -> None:
    summary, written = analysed(folder, STUDENT, UNTRAINED, TEACHER)
    assert [(c["a"], c["b"]) for c in written["comparisons"]] == [
        ("Student", "Untrained"),
        ("Student", "Teacher"),
    ]
    assert summary["verdicts"]["Untrained"]["auroc"].startswith("Student is better than Untrained by +")
    assert summary["verdicts"]["Teacher"]["auroc"].endswith("Teacher gives labels and no probabilities.")
    assert written["comparisons"][0]["mcnemar"]["discordant"] > 0
    assert written["comparisons"][0]["differences"]["auroc"]["detectable"] > 0


def test_a_teacher_is_measured_by_its_labels_alone(folder: Path) -> None:
    _, written = analysed(folder, STUDENT, TEACHER)
    teacher = written["scorers"]["teacher"]
    assert teacher["unlabelled"] == 1
    unanswered = examples("test")[3]
    assert teacher["intervals"]["accuracy"]["value"] == pytest.approx(1 - unanswered.label / 120)
    assert teacher["intervals"]["brier"]["undefined"] == "Teacher gives labels and no probabilities"
    by = {s["by"] for s in written["slices"]}
    assert by == {"cited rule", "length", "agreement with Teacher"}


def test_slices_and_faithfulness_are_of_the_first_scorer(folder: Path) -> None:
    _, written = analysed(folder, UNTRAINED, STUDENT)
    rules = {s["name"]: s["rows"] for s in written["slices"] if s["by"] == "cited rule"}
    assert rules == {"R1": 15, "R2": 15}
    left = 120 - sum(s["rows"] for s in written["slices"] if s["by"] == "length")
    assert 0 <= left < LEAST_ROWS  # such a small bucket is left out
    said = written["faithfulness"]
    positive = sum(e.label for e in examples("test")[:30])
    assert (said["quotes_that_occur"]["count"], said["quotes_that_occur"]["total"]) == (positive, 30)
    assert said["rules_that_exist"]["share"]["value"] == 1


def test_baselines_are_measured_with_the_scores_of_their_stage(folder: Path) -> None:
    part = baselines.BaselineSettings(seed=1)
    baselines.baseline(part, StageIO({"split": folder / "split"}, folder / "baseline"))
    frozen = DecideSettings.model_validate(
        {"threshold": {}, "calibration": {}, "scores": "tfidf_words_val.jsonl", "seed": 1}
    )
    inputs = {"split": folder / "split", "scored": folder / "baseline"}
    decide(frozen, StageIO(inputs, folder / "words_decision"))
    words = ScorerSettings(
        name="tfidf_words",
        title="Words",
        kind="baseline",
        scored="baseline",
        file="tfidf_words_test.jsonl",
        decision="words_decision",
    )
    majority = ScorerSettings(
        name="majority",
        title="Majority",
        kind="baseline",
        scored="baseline",
        file="majority_test.jsonl",
        threshold=0.5,
    )
    _, written = analysed(folder, STUDENT, words, majority)
    frozen_for = {
        "tfidf_words": Decision.read(folder / "words_decision/decision.json"),
        "majority": Decision.by_definition(0.5),
    }
    for name, found in frozen_for.items():
        measured = found.metrics(Predictions.read(folder / f"baseline/{name}_test.jsonl"))
        assert written["scorers"][name]["metrics"] == json.loads(json.dumps(measured.to_json()))


def test_rows_that_failed_for_one_scorer_are_left_out_for_all_and_counted(folder: Path) -> None:
    rows = scored(examples("test"), apart=0.05)
    dataclasses.replace(rows, errors=("no answer", *rows.errors[1:])).write(
        folder / "untrained_test/scores.jsonl"
    )
    summary, written = analysed(folder, STUDENT, UNTRAINED)
    assert (summary["rows"], summary["left_out"]) == (119, 1)
    assert all(s["metrics"]["n"] == 119 for s in written["scorers"].values())


def test_a_scorer_that_lacks_rows_is_refused(folder: Path) -> None:
    scored(examples("test"), apart=0.05).take(range(118)).write(folder / "untrained_test/scores.jsonl")
    with pytest.raises(StageError, match="Untrained has no score of 2 of 120 rows, test118 for one"):
        analysed(folder, STUDENT, UNTRAINED)


def test_groups_are_drawn_whole_and_become_slices(folder: Path) -> None:
    write_examples(folder / "split/test.csv", examples("test", grouped=True))
    _, written = analysed(folder, STUDENT, UNTRAINED)
    assert (written["clustered"], written["groups"]) == (True, 30)
    assert written["scorers"]["student"]["intervals"]["accuracy"]["method"] == "bootstrap"


def test_an_analysis_reads_back_equal_from_its_file(folder: Path) -> None:
    _, written = analysed(folder, STUDENT, UNTRAINED, TEACHER)
    read = Analysis.read(folder / "out/analysis.json")
    assert json.loads(json.dumps(read.to_json(), allow_nan=False)) == written
    assert isinstance(read.first, ProbabilityAnalysis)
    assert isinstance(read.scorers["teacher"], LabelAnalysis)
    assert [(s.title, c.b) for s, c in read.compared()] == [
        ("Untrained", "Untrained"),
        ("Teacher", "Teacher"),
    ]


def test_version_0_1_files_are_read_and_unknown_versions_refused(folder: Path) -> None:
    _, written = analysed(folder, STUDENT, UNTRAINED, TEACHER)
    first = {name: value for name, value in written.items() if name != "version"}
    assert Analysis.from_json(first, "analysis.json") == Analysis.from_json(written, "analysis.json")
    with pytest.raises(InvalidFile, match=r"runs/a/analysis\.json: format version 9 is unknown"):
        Analysis.from_json({**written, "version": 9}, "runs/a/analysis.json")
    with pytest.raises(InvalidFile, match="rows"):
        Analysis.from_json({**written, "rows": "many"}, "runs/a/analysis.json")


def test_equal_seeds_write_equal_files(folder: Path) -> None:
    analysed(folder, STUDENT, UNTRAINED)
    first = (folder / "out/analysis.json").read_bytes()
    analysed(folder, STUDENT, UNTRAINED)
    assert (folder / "out/analysis.json").read_bytes() == first


@pytest.mark.parametrize("given", [{}, {"decision": "d", "threshold": 0.5}])
def test_a_scorer_has_exactly_one_way_to_decide(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="needs one of decision, threshold and labels_only"):
        ScorerSettings.model_validate({"name": "a", "title": "A", "kind": "baseline", "scored": "s", **given})


@pytest.mark.parametrize("part", [Part.SLICES, Part.FAITHFULNESS])
def test_a_failing_part_is_named_and_can_be_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: Part
) -> None:
    def broken(*arguments: object, **named: object) -> object:
        raise ZeroDivisionError("no rows")

    _, whole = analysed(folder, STUDENT)
    monkeypatch.setattr(analysis, part.name.lower(), broken)
    with pytest.raises(PartFailed) as caught:
        analysed(folder, STUDENT)
    assert (caught.value.part, caught.value.error) == (part, "ZeroDivisionError")
    _, left = analysed(folder, STUDENT, without=(part,))
    assert left == {**whole, part.name.lower(): [] if part is Part.SLICES else None}
