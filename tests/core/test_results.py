"""Results of runs are strict JSON and read back equal; older files are read too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core import jsonio
from core.jsonio import InvalidFile, parse
from core.results import (
    VERSION,
    Ledger,
    ReinforcementResult,
    RunResult,
    ScorerResult,
    SplitSize,
    TeacherFigures,
    TeacherTotals,
    load_run_result,
)
from core.store import Store
from tests.core.export.making import constant, metrics
from tests.core.summary.making import RUN_0_1

ON_DISK = pytest.mark.parametrize("root", ["disk"], indirect=True)


def figures() -> TeacherFigures:
    """The teacher's figures of a run of 0.1."""
    written = json.loads((RUN_0_1 / "run_summary.json").read_text())["teacher_summary"]
    return TeacherFigures.model_validate(written)


def result() -> RunResult:
    """A result with metrics, one of them undefined, a baseline and a live teacher."""
    majority = ScorerResult(
        title="Majority class of train",
        kind="baseline",
        trained_on="gold labels of all train rows",
        settings={"share_positive": 0.2, "ngram_range": [1, 2]},
        calibration="none",
        decision_threshold=0.5,
        decision_threshold_reason="by definition",
        metrics={"test": constant()},
    )
    return RunResult(
        run_dir="runs/night",
        report_path="runs/night/test_report.md",
        best_model_path="runs/night/best",
        best_step=10,
        best_val_macro_f1=metrics(90)["macro_f1"],
        selection_metric="macro_f1",
        beats_untrained=True,
        teacher_summary=figures(),
        sizes={"train": SplitSize(rows=8, positive=4)},
        test={"student": metrics(90)},
        untrained={"val": metrics(30)},
        baselines={"majority": majority},
        ledger=Ledger(usd=1.5, teacher=TeacherTotals(runs=("night",)), seconds={"train": 2.5}),
    )


def test_a_result_reads_back_equal() -> None:
    written = jsonio.canonical(result().to_json())
    assert parse(RunResult, written) == (result(), False)


def test_the_predecessors_field_names_are_kept() -> None:
    written = result().to_json()
    names = ["run_dir", "teacher_dir", "report_path", "final_model_path", "best_model_path"]
    assert list(written)[:6] == ["version", *names]
    assert written["test"]["student"]["F1"] == metrics(90)["f1"]
    majority = written["baselines"]["majority"]["metrics"]["test"]
    assert (majority["precision"], majority["auroc"]) == (None, 0.5)
    assert majority["undefined"]["precision"] == "no row was predicted positive"


@ON_DISK
def test_a_run_without_a_summary_has_no_result(store: Store) -> None:
    assert load_run_result(store, "night") is None


@ON_DISK
def test_an_unknown_version_is_refused_with_its_file_and_the_remedy(store: Store) -> None:
    content = {**result().to_json(), "version": VERSION + 1}
    store.backend.write("runs/night/run_summary.json", jsonio.canonical(content))
    with pytest.raises(InvalidFile, match=r"runs/night/run_summary\.json: format version 2 .* upgrade"):
        load_run_result(store, "night")


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "input should be an object"),
        (b"{}", "run_dir"),
        (b'{"run_dir": 5}', "run_dir"),
        (b'{"run_dir": "r", "test": {"student": {"macro_f1": 1}}}', "test.student"),
    ],
)
def test_the_message_about_an_invalid_file_names_the_field(content: bytes, field: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        parse(RunResult, content)
    assert str(raised.value).startswith(field)


def test_nan_is_read_as_none_and_reported_and_never_written() -> None:
    found, has_nan = parse(RunResult, b'{"run_dir": "r", "best_val_macro_f1": NaN}')
    assert (found.best_val_macro_f1, has_nan) == (None, True)
    with pytest.raises(ValueError, match="finite"):
        RunResult(run_dir="r", best_val_macro_f1=float("nan"))


def test_every_field_of_a_version_0_1_result_is_read() -> None:
    data = (RUN_0_1 / "run_summary.json").read_bytes()
    found, _ = parse(RunResult, data)
    assert contains(found.to_json(), json.loads(data))
    assert found.run == "small"
    assert found.student_on_test == found.test["student"]


def test_every_field_of_a_version_0_1_reinforcement_is_read() -> None:
    data = (RUN_0_1 / "rl_phase/rl_summary.json").read_bytes()
    found, _ = parse(ReinforcementResult, data)
    assert contains(found.to_json(), json.loads(data))
    assert found.start.run == "small"


def contains(found: Any, expected: Any) -> bool:
    """Whether every field of `expected` is in `found` with the same value."""
    if isinstance(expected, dict):
        return all(name in found and contains(found[name], value) for name, value in expected.items())
    return bool(found == expected)


def test_a_result_of_the_predecessor_is_read_without_its_teacher_figures() -> None:
    content = {
        "run_dir": "/home/me/runs/reasoning_sft_20250102_030405",
        "best_step": 16,
        "adapter_downloads": {"final": {"files": ["adapter.safetensors"], "error": None}, "best_val": None},
        "teacher_summary": {"teacher_model": "deepseek-chat", "teacher_workers": 10, "acceptance_rate": 0.9},
    }
    found, _ = parse(RunResult, json.dumps(content).encode())
    assert (found.run, found.best_step) == ("reasoning_sft_20250102_030405", 16)
    assert found.teacher_summary is None
    assert (found.test, found.student_on_test) == ({}, None)
