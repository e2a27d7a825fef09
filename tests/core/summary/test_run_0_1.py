"""Runs of version 0.1 are listed, summarized and compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.store import Store
from core.summary.run_comparison import compare_runs, read_predictions
from core.summary.run_records import list_runs
from core.summary.summarize import cells, collect
from tests.core.summary.making import RUN_0_1


@pytest.fixture
def old_root(tmp_path: Path) -> Store:
    for name in ("a", "b"):
        shutil.copytree(RUN_0_1, tmp_path / "runs" / name)
    return Store.at(str(tmp_path))


def test_ls_shows_state_step_and_metrics(old_root: Store) -> None:
    a, b = list_runs(old_root)
    assert (a.name, a.state, a.best_step) == ("a", "finished", 2)
    assert a.metrics == b.metrics == {"macro_f1": 1.0, "auroc": 1.0, "log_loss": 0.6780531219143824}


def test_summary_has_every_column(old_root: Store) -> None:
    found = collect(old_root)
    assert (found.runs, len(found.rows), found.skipped) == (2, 12, [])
    row = cells(next(r for r in found.rows if (r.split, r.mode) == ("test", "reasoning")))
    undefined = {name for name, value in row.items() if value is None}
    assert undefined == {"usd", "teacher_tokens", "invalid_label_rate_low", "invalid_label_rate_high"}
    assert (row["engine"], row["base_model"], row["target"]) == ("local", "models/small", "label_only")
    assert (row["teacher_kind"], row["best_step"]) == ("recorded", 2)
    assert row["seconds"] == pytest.approx(9.8)
    assert (row["trained_tokens"], row["prefilled_tokens"]) == (1310, 0)
    assert row["version"] == "0.1.0"
    assert row["accuracy_low"] == pytest.approx(0.7008549515804559)


def test_compare_reads_their_predictions(old_root: Store) -> None:
    found = compare_runs(read_predictions(old_root, "a", "test"), read_predictions(old_root, "b", "test"))
    assert (len(found.pairs["both_right"]), found.left_out, found.same_data) == (9, {}, True)
    assert found.metrics["accuracy"] == (1.0, 1.0)
