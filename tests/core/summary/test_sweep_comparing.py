"""Arms that finished are compared on the same rows: val decides, test is shown, nobody is left out unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import ResolvedConfig
from core.errors import StageError
from core.pipeline.run import run_sweep
from core.summary.sweep_arms import Ended, Sweep, SweepResult, compare_arms
from core.summary.sweep_report import write_sweep_report
from tests.core.summary.finished_arms import ROWS, Lab, Quality

CONTROL = ["student.rationales=shuffled"]
ARMS: dict[str, list[str]] = {
    "weak": [],
    "strong": ["student.epochs=2"],
    "middle": ["seed=7"],
    "control": CONTROL,
}
QUALITIES = {
    "weak": Quality(0.02, 0.6),
    "strong": Quality(0.15, 0.0),
    "middle": Quality(0.08, 0.3),
    "control": Quality(1.0, 0.3),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A sweep of four arms: the strongest on val is the weakest on test, and the control beats all."""
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def sweep(lab: Lab) -> Sweep:
    found = lab.sweep(ARMS)
    for arm in found.arms:
        lab.finish(arm, QUALITIES[arm.name])
    return found


@pytest.fixture(scope="module")
def compared(lab: Lab, sweep: Sweep) -> SweepResult:
    return compare_arms(lab.store, sweep, [Ended(arm) for arm in sweep.arms])


def compare(tmp_path: Path, arms: dict[str, Quality], *overrides: str) -> SweepResult:
    """A small sweep of its own; its arms differ in nothing but their scores."""
    lab = Lab(tmp_path)
    sweep = lab.sweep({name: [] for name in arms}, *overrides)
    for arm in sweep.arms:
        lab.finish(arm, arms[arm.name], rows=24)
    return compare_arms(lab.store, sweep, [Ended(arm) for arm in sweep.arms])


def names(arms: Sequence[Any]) -> list[str]:
    return [arm.name for arm in arms]


def test_val_alone_decides_and_a_control_is_never_recommended(compared: SweepResult) -> None:
    assert compared.val is not None
    assert compared.test is not None
    assert compared.recommended is not None
    assert compared.recommended.name == "strong"
    on_val, on_test = (
        {name: scorer.intervals["macro_f1"].value or 0 for name, scorer in analysis.scorers.items()}
        for analysis in (compared.val, compared.test)
    )
    assert max(on_val, key=lambda name: on_val[name]) == "control"
    assert min(on_test, key=lambda name: on_test[name]) == "strong"
    assert (names(compared.finished), compared.left_out) == (list(ARMS), [])


def test_val_has_the_recommended_arm_first_and_test_the_order_of_the_file(compared: SweepResult) -> None:
    assert compared.val is not None
    assert compared.test is not None
    assert list(compared.val.scorers) == ["strong", "weak", "middle", "control"]
    assert list(compared.test.scorers) == list(ARMS)
    assert [(c.a, c.b) for c in compared.val.comparisons] == [
        ("strong", name) for name in ("weak", "middle", "control")
    ]
    assert [(c.a, c.b) for c in compared.test.comparisons] == [("weak", name) for name in list(ARMS)[1:]]
    assert (compared.val.split, compared.val.rows, compared.test.split) == ("val", ROWS, "test")


def test_intervals_and_p_values_hold_for_all_comparisons_at_once(compared: SweepResult) -> None:
    assert compared.val is not None
    for comparison in compared.val.comparisons:
        for name in ("macro_f1", "auroc"):
            found = comparison.differences[name]
            assert found.comparisons == 3
            assert found.p is not None
            assert found.p_adjusted is not None
            assert found.p_holm is not None
            assert found.p <= found.p_holm <= min(1, 3 * found.p) + 1e-12
            assert found.p_adjusted >= found.p - 1e-12
            assert found.shown == (found.low is not None and not found.low <= 0 <= (found.high or 0))


def test_an_interval_is_not_narrower_with_more_arms(lab: Lab, sweep: Sweep, compared: SweepResult) -> None:
    two = [Ended(arm) for arm in sweep.arms if arm.name in ("weak", "strong")]
    alone = compare_arms(lab.store, sweep, two)
    assert alone.val is not None
    assert compared.val is not None
    one, many = (analysis.comparisons[0].differences["auroc"] for analysis in (alone.val, compared.val))
    assert (one.value, one.comparisons, many.comparisons) == (many.value, 1, 3)
    assert None not in (one.low, one.high, many.low, many.high)
    assert (many.high or 0) - (many.low or 0) >= (one.high or 0) - (one.low or 0)


@pytest.mark.parametrize(("metric", "best"), [("log_loss", "near"), ("auroc", "near")])
def test_the_metric_of_the_first_arm_is_better_low_or_high(tmp_path: Path, metric: str, best: str) -> None:
    arms = {"far": Quality(0.0), "near": Quality(0.5)}
    found = compare(tmp_path, arms, f"evaluation.metric={metric}")
    assert found.metric == metric
    assert found.recommended is not None
    assert found.recommended.name == best


def test_of_equal_arms_the_first_is_recommended(tmp_path: Path) -> None:
    found = compare(tmp_path, {"one": Quality(0.4), "two": Quality(0.4)})
    assert found.recommended is not None
    assert found.recommended.name == "one"
    assert found.val is not None
    difference = found.val.comparisons[0].differences["macro_f1"]
    assert (difference.value, difference.shown) == (0, False)


def test_without_a_value_on_val_nothing_is_recommended(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    sweep = lab.sweep({"one": [], "two": []}, "evaluation.metric=auroc")
    for arm in sweep.arms:
        lab.finish(arm, Quality(0.4), rows=24, one_class=True)
    write_sweep_report(lab.store, sweep, [Ended(arm) for arm in sweep.arms])
    written = jsonio.read_json(tmp_path / "out/sweeps/mine/sweep.json")
    assert (written["recommended"], written["finished"]) == (None, ["one", "two"])
    assert "No arm can be recommended" in (tmp_path / "out/sweeps/mine/sweep_report.md").read_text()


def test_test_is_shown_for_all_arms_or_for_none(tmp_path: Path) -> None:
    found = compare(tmp_path, {"one": Quality(0.4), "two": Quality(0.1, test=None)})
    assert found.val is not None
    assert (found.test, names(found.finished)) == (None, ["one", "two"])


def test_arms_that_share_no_rows_or_exported_nothing_or_are_damaged_are_left_out_with_the_reason(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path)
    sweep = lab.sweep(
        {name: [] for name in ("first", "other_rows", "nothing", "damaged", "record", "failed")}
    )
    first, other, nothing, damaged, record, failed = sweep.arms
    lab.finish(first, Quality(0.4), rows=24)
    lab.finish(other, Quality(0.4, seed=5), rows=24)
    lab.finish(damaged, Quality(0.1), rows=24)
    (scores,) = (tmp_path / "out").glob("objects/export/damaged-1-val/*/scores.jsonl")
    scores.write_text("{}\n")
    lab.finish(record, Quality(0.1), rows=24).write("stages.json", '{"split": 3}')
    ended = [*(Ended(arm) for arm in sweep.arms[:-1]), Ended(failed, "no such model")]
    where = write_sweep_report(lab.store, sweep, ended)
    assert where == str(tmp_path / "out/sweeps/mine/sweep_report.html")
    written = jsonio.read_json(tmp_path / "out/sweeps/mine/sweep.json")
    assert (written["finished"], written["recommended"]) == (["first"], "first")
    left = written["left"]
    assert set(left) == {"other_rows", "nothing", "damaged", "record", "failed"}
    assert "differs from that of first" in left["other_rows"]
    assert f"run {nothing.run} exported nothing" in left["nothing"]
    assert "export/student/val/reasoning" in left["damaged"]
    assert "stages.json is not a record" in left["record"]
    assert left["failed"] == "no such model"
    report = (tmp_path / "out/sweeps/mine/sweep_report.md").read_text()
    for arm in (other, nothing, damaged, record, failed):
        assert f"{arm.name.replace('_', chr(92) + '_')} (run {arm.run.replace('_', chr(92) + '_')})" in report


def test_a_sweep_of_which_no_arm_finished_has_a_report_all_the_same(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    sweep = lab.sweep({"a": [], "b": []})
    write_sweep_report(lab.store, sweep, [Ended(arm, f"{arm.name} broke") for arm in sweep.arms])
    written = jsonio.read_json(tmp_path / "out/sweeps/mine/sweep.json")
    assert {name: written[name] for name in ("metric", "recommended", "val", "test", "finished")} == {
        "metric": None, "recommended": None, "val": None, "test": None, "finished": [],
    }  # fmt: skip
    assert written["left"] == {"a": "a broke", "b": "b broke"}
    assert written["arms"]["b"] == {"run": "base-b", "sets": []}


def test_the_report_has_every_arm_its_cost_and_the_command_that_publishes_the_best(
    lab: Lab, sweep: Sweep
) -> None:
    write_sweep_report(lab.store, sweep, [Ended(arm) for arm in sweep.arms])
    folder = lab.folder / "out/sweeps/mine"
    report = (folder / "sweep_report.md").read_text()
    assert "strong is recommended" in report
    assert "control is better, but a control" in report
    assert "not recommended, whatever the figures" in report
    for arm in sweep.arms:
        assert f"`{arm.run}`" in report
    assert "| finished | 3 of 4 | 12 | 0.1250 |" in report
    command = (
        f"understudy run {sweep.base} --set student.epochs=2 --set run.name=base-strong --set publish=true"
    )
    assert command in report
    assert "Not for choosing: test was read once for each of 4 arms" in report
    assert (folder / "sweep_report.html").read_text().lower().lstrip().startswith("<!doctype html>")
    written = jsonio.read_json(folder / "sweep.json")
    assert (written["recommended"], written["recommended_by"], written["metric"]) == (
        "strong",
        "val",
        "macro_f1",
    )
    assert written["arms"]["strong"] == {"run": "base-strong", "sets": ["student.epochs=2"]}


def test_an_arm_that_fails_does_not_stop_the_others_and_the_same_command_continues(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    sweep = lab.sweep({"one": [], "breaks": [], "two": []})
    arms, ran, shown = {arm.run: arm for arm in sweep.arms}, list[str](), list[str]()
    broken = True

    def run_arm(resolved: ResolvedConfig) -> None:
        arm = arms[resolved.run_name]
        ran.append(arm.name)
        if arm.name == "breaks" and broken:
            raise OSError("no space")
        lab.finish(arm, Quality(0.4), rows=24)

    with pytest.raises(StageError) as stopped:
        run_sweep(sweep, run_arm, lambda store, of: shown.append(of.name))
    assert "1 of 3 arms did not finish" in str(stopped.value)
    assert "arm breaks: no space" in str(stopped.value)
    assert str(tmp_path / "out/sweeps/mine/sweep_report.html") in str(stopped.value)
    assert jsonio.read_json(tmp_path / "out/sweeps/mine/sweep.json")["finished"] == ["one", "two"]
    broken = False
    run_sweep(sweep, run_arm, lambda store, of: shown.append(of.name))
    assert ran == ["one", "breaks", "two"] * 2
    assert shown == ["mine", "mine"]
    written = jsonio.read_json(tmp_path / "out/sweeps/mine/sweep.json")
    assert (written["finished"], written["left"]) == (["one", "breaks", "two"], {})
