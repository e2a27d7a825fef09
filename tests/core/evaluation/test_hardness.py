"""The student on texts that were hard for the teacher: on train by rejection, on other splits by judging."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import CalibrationConfig, RejectionConfig, RulesConfig, ThresholdConfig
from core.errors import StageError
from core.evaluation.decision import DecideSettings, decide
from core.evaluation.predictions import Predictions
from core.evaluation.slices import HARDNESS, HardnessSettings, IndependentJudgingSettings, hardness
from core.intervals import difference, share
from core.records import Example, TeacherAnswer, write_examples
from core.rejection.funnel import Hardness
from core.rejection.stage import HARD_FILE, tagged_file
from core.stage import StageIO
from core.teacher.samples import sample_row

EXAMPLES = [Example(f"t{i}", f"Text {i}", i % 2) for i in range(60)]
HARD = {f"t{i}" for i in range(24)}


def right(example: Example) -> bool:
    """Whether the student is right: it is wrong on half of the hard texts only."""
    return example.id not in HARD or int(example.id[1:]) % 4 < 2


def scored(examples: Sequence[Example] = EXAMPLES, failed: Sequence[str] = ()) -> Predictions:
    return Predictions.of(
        [e.id for e in examples],
        [0.9 if (e.label == 1) is right(e) else 0.1 for e in examples],
        gold=[e.label for e in examples],
        errors=["gone" if e.id in failed else None for e in examples],
    )


@pytest.fixture
def io(tmp_path: Path) -> StageIO:
    """Scores and a decision of both splits; no answers yet."""
    for name in ("split", "answers", "scored", "decision", "out", "rules"):
        (tmp_path / name).mkdir()
    (tmp_path / "rules/a.txt").write_text("R1 one")
    for split in ("train", "test"):
        write_examples(tmp_path / f"split/{split}.csv", EXAMPLES)
    scored().write(tmp_path / "scored/scores.jsonl")
    write_examples(tmp_path / "split/val.csv", EXAMPLES)
    part = DecideSettings(threshold=ThresholdConfig(), calibration=CalibrationConfig(method="none"), seed=1)
    inputs = {"split": tmp_path / "split", "scored": tmp_path / "scored"}
    decide(part, StageIO(inputs, tmp_path / "decision"))
    return StageIO({n: tmp_path / n for n in ("split", "answers", "scored", "decision")}, tmp_path / "out")


def write_rejected(folder: Path, unanswered: Sequence[str] = ()) -> None:
    """Write the files of the reject stage."""
    shares = {k: share(12, 30) for k in ("0", "1")}
    hard = Hardness(len(HARD), len(unanswered), shares, difference(shares["1"], shares["0"]))
    jsonio.write_json(folder / "teacher_summary.json", {"hard": dataclasses.asdict(hard)})
    with (folder / tagged_file("train")).open("w", newline="") as f:
        marks = ["" if e.id in unanswered else int(e.id in HARD) for e in EXAMPLES]
        rows = [(e.id, e.text, e.label, mark) for e, mark in zip(EXAMPLES, marks, strict=True)]
        csv.writer(f).writerows([("id", "text", "label", "hard"), *rows])


def write_answers(folder: Path, reasoning: str = "same words for all [R1]") -> None:
    """Write one answer per text, wrong for hard texts."""
    answers = [
        TeacherAnswer(e.id, 0, "m", "", True, "json", 1 - e.label if e.id in HARD else e.label, reasoning)
        for e in EXAMPLES
    ]
    rows = (sample_row(e, a, split="test") for e, a in zip(EXAMPLES, answers, strict=True))
    jsonio.write_jsonl(folder / "teacher_samples.jsonl", rows)


def look(
    io: StageIO, split: Any = "train", rules: Sequence[Any] = ("label_mismatch", "repeats")
) -> dict[str, Any]:
    judging = None
    if split != "train":
        rejection = RejectionConfig.model_validate({"rules": list(rules)})
        judging = IndependentJudgingSettings(
            rejection=rejection, rules=RulesConfig(dir=str(io.out.parent / "rules"))
        )
    hardness(HardnessSettings(split=split, judging=judging, resamples=50, seed=1), io)
    found: dict[str, Any] = json.loads((io.out / HARDNESS).read_text())
    return found


def sliced(found: dict[str, Any]) -> dict[str, tuple[int, float]]:
    return {s["name"]: (s["rows"], s["metrics"]["accuracy"]["value"]) for s in found["slices"]}


def test_train_is_sliced_by_the_hard_texts_of_the_reject_stage(io: StageIO) -> None:
    write_rejected(io.input("answers"))
    found = look(io)
    assert sliced(found) == {"hard": (24, 0.5), "not hard": (36, 1.0)}
    assert (found["split"], found["texts"], found["by_label"]["1"]["count"]) == ("train", 24, 12)
    assert not (io.out / HARD_FILE).exists()


def test_unanswered_and_failed_texts_are_in_neither_slice(io: StageIO) -> None:
    write_rejected(io.input("answers"), unanswered=["t0", "t59"])
    scored(failed=["t1", "t2"]).write(io.input("scored") / "scores.jsonl")
    assert {name: rows for name, (rows, _) in sliced(look(io)).items()} == {"hard": 21, "not hard": 35}


def test_answers_to_test_are_judged_by_all_rules_except_repeats(io: StageIO) -> None:
    write_answers(io.input("answers"))
    found = look(io, "test")
    assert sliced(found) == {"hard": (24, 0.5), "not hard": (36, 1.0)}
    assert found["by_label"]["0"] == {**found["by_label"]["0"], "count": 12, "total": 30}
    rows = list(jsonio.read_jsonl(io.out / HARD_FILE))
    assert [row["place"] for row in rows[:2]] == ["data_splits/test.csv:2", "data_splits/test.csv:3"]
    assert (io.out / tagged_file("test")).read_text().count(",1\n") == 24
    assert sliced(
        look(io, "test", ["label_mismatch", "no_rule_cited", {"rule": "too_short", "min_chars": 99}])
    ) == {"hard": (60, 0.8)}


def test_a_split_without_scores_is_marked_and_counted_but_not_sliced(io: StageIO) -> None:
    write_answers(io.input("answers"))
    bare = dataclasses.replace(io, inputs={n: io.inputs[n] for n in ("split", "answers")})
    found = look(bare, "test")
    assert (found["texts"], found["slices"]) == (24, [])


def test_answers_to_other_texts_are_refused(io: StageIO) -> None:
    write_answers(io.input("answers"))
    write_examples(io.input("split") / "test.csv", EXAMPLES[1:])
    with pytest.raises(StageError, match="answers id 't0', which test does not hold in this place"):
        look(io, "test")
