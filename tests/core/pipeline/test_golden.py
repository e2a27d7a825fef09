"""A stage's output on a small fixed project stays the same, or its version is raised."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.evaluation import baselines
from core.stage import STAGES, StageIO
from core.student.encoding import EncodedExample, Encoder
from core.student.tokenizer import TextTokens
from tests.core.pipeline import golden_files
from tests.core.pipeline.describing import described, differences
from tests.core.pipeline.golden_files import COMMAND, FOLDER, NAMES, Golden, complaint, golden_of, read
from tests.core.pipeline.making import Made


def test_golden_files_exist_for_exactly_the_declared_stages() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES)


def test_the_project_builds_every_stage_with_a_golden_file(made: Made) -> None:
    assert {stage.name for stage in made.stages.values()} == set(NAMES)
    assert {s.name: s.stage.version for s in made.stages.values()} == {n: STAGES[n].version for n in NAMES}


@pytest.mark.parametrize("stage", NAMES)
def test_the_output_of_a_stage_matches_its_golden_file(made: Made, stage: str) -> None:
    message = complaint(read(stage), golden_of(made, stage))
    assert message is None, message


# The check has teeth.


def again(made: Made, slot: str, out: Path) -> Golden:
    """The stage's output, built again by the present code."""
    call = made.stages[slot]
    inputs = {name: made.store.folder(m) for name, m in call.inputs.items()}
    out.mkdir()
    summary = call.stage(call.settings, StageIO(inputs, out, run=call.context), *call.arguments)
    found = described(call.name, out, summary, made.folder)
    outputs = {**read(call.name).outputs, slot: {**found, "(summary)": _with_seconds(found["(summary)"])}}
    return Golden(call.name, call.stage.version, outputs)


def _with_seconds(summary: dict[str, Any]) -> dict[str, Any]:
    """A manifest's summary, with the seconds that the stage took."""
    return {**summary, "seconds": "<not compared>"}


def test_a_changed_token_is_detected(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaint(read("encode"), again(made, "encode", tmp_path / "same")) is None
    example = Encoder.example

    def another(
        self: Encoder, example_id: str, text: TextTokens, label: int, reasoning: str
    ) -> EncodedExample | None:
        found = example(self, example_id, text, label, reasoning)
        assert found is not None
        *first, last = found.datum.targets
        datum = dataclasses.replace(found.datum, targets=(*first, last + 1))
        return dataclasses.replace(found, datum=datum)

    monkeypatch.setattr(Encoder, "example", another)
    message = complaint(read("encode"), again(made, "encode", tmp_path / "other")) or ""
    assert "the output of stage encode differs" in message
    assert "encode: examples.parquet: tokens is list<element: int32> " in message
    assert "raise its version in core/student/encode_stage.py" in message
    assert f"`{COMMAND}`" in message
    assert "encode: examples.parquet: label" not in message


def test_a_changed_baseline_is_detected(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaint(read("baseline"), again(made, "baseline", tmp_path / "same")) is None
    monkeypatch.setattr(baselines, "GRID", (9.0,))
    found = again(made, "baseline", tmp_path / "other")
    assert "the output of stage baseline differs" in (complaint(read("baseline"), found) or "")
    differing = list(differences(read("baseline").outputs, found.outputs))
    assert any("tfidf_chars_train.jsonl: probability[0] is " in sentence for sentence in differing)
    assert not any("majority" in sentence for sentence in differing)


def test_a_raised_version_requires_a_new_golden_file(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, "baseline", dataclasses.replace(STAGES["baseline"], version=99))
    message = complaint(read("baseline"), golden_of(made, "baseline")) or ""
    assert "stage baseline is of version 99" in message
    assert f"write the golden file again with `{COMMAND}`" in message


Harm = Callable[[dict[str, Any]], None]


def loss(factor: float) -> Harm:
    def harm(files: dict[str, Any]) -> None:
        files["steps.jsonl"]["loss"][1] *= factor

    return harm


def norm(factor: float) -> Harm:
    def harm(files: dict[str, Any]) -> None:
        next(iter(files["adapter/adapter_model.safetensors"].values()))[2] *= factor

    return harm


def file_is_renamed(files: dict[str, Any]) -> None:
    files["step.jsonl"] = files.pop("steps.jsonl")


def field_is_renamed(files: dict[str, Any]) -> None:
    files["steps.jsonl"]["rate"] = files["steps.jsonl"].pop("learning_rate")


def step_is_missing(files: dict[str, Any]) -> None:
    files["steps.jsonl"]["loss"].pop()


def number_is_a_text(files: dict[str, Any]) -> None:
    files["checkpoint.json"]["step"] = str(files["checkpoint.json"]["step"])


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (loss(1 + 1e-4), []),
        (norm(1 - 1e-4), []),
        (loss(1.01), ["train/3: steps.jsonl: loss[1] is "]),
        (norm(1.01), ["train/3: adapter/adapter_model.safetensors: "]),
        (file_is_renamed, ["train/3: step.jsonl is new", "train/3: steps.jsonl is missing"]),
        (
            field_is_renamed,
            ["train/3: steps.jsonl: learning_rate is missing", "train/3: steps.jsonl: rate is new"],
        ),
        (step_is_missing, ["train/3: steps.jsonl: loss is "]),
        (number_is_a_text, ["train/3: checkpoint.json: step is 3 instead of 3"]),
    ],
)
def test_names_are_compared_exactly_and_numbers_within_the_last_bits(harm: Harm, expected: list[str]) -> None:
    golden = read("train").outputs
    found = copy.deepcopy(golden)
    harm(found["train/3"])
    differing = sorted(differences(golden, found))
    assert len(differing) == len(expected)
    assert all(sentence.startswith(begin) for sentence, begin in zip(differing, expected, strict=True))


def test_golden_files_are_not_overwritten_without_a_new_version(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later stage whose output changed only through an earlier one needs no new version."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    for stage, old, new in (("encode", '"hash": "', '"hash": "0'), ("train", '"loss": [1', '"loss": [2')):
        text = (FOLDER / f"{stage}.json").read_text()
        assert old in text
        (tmp_path / f"{stage}.json").write_text(text.replace(old, new))
    monkeypatch.setattr(golden_files, "FOLDER", tmp_path)
    assert list(golden_files.refused(made)) == ["encode"]
    value = json.loads((tmp_path / "encode.json").read_text())
    (tmp_path / "encode.json").write_text(json.dumps({**value, "version": 0}))
    assert golden_files.refused(made) == {}
