"""The learning curve as a file."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest

from core.report.plots import save_learning_curve
from tests.core.report.making import full


@pytest.mark.parametrize("metric", ["macro_f1", "auroc", "mcc"])
def test_it_is_drawn_whatever_the_baselines_are_called(tmp_path: Path, metric: str) -> None:
    report, path = full(), tmp_path / "plots/curve.png"
    measured = next(iter(report.val_baselines.values()))
    names = ("_words", "$x$ <b>", "a" * 200)
    selection = dataclasses.replace(report.selection, metric=metric)
    data = dataclasses.replace(report, selection=selection, val_baselines=dict.fromkeys(names, measured))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_learning_curve(data, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


def test_it_is_drawn_without_losses_and_baselines(tmp_path: Path) -> None:
    bare = dataclasses.replace(full(), curve={0: full().curve[0]}, losses=(), val_baselines={})
    save_learning_curve(bare, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5_000
