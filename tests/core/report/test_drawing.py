"""Plots can share a page whatever their names contain; the learning curve is also written as a file."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.report.drawing import NAMES, draw, label
from core.report.plots import ForestRow, forest, save_learning_curve
from tests.core.report.making import full, full_page

HOSTILE = (
    "</text><script>x</script>",
    "a & b < c",
    "$\\frac{1}{0}$ and $",
    "_hidden",
    "\x00\x07 \ud800",
    "𝕏 漢字",
)


def drawings() -> list[str]:
    """The plots of a whole report."""
    found = re.findall(r"<svg .*?</svg>", full_page(), re.DOTALL)
    assert len(found) >= 11
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_drawn_literally_without_markup(name: str) -> None:
    drawn = draw(forest([ForestRow(name, 0.1, 0.0, 0.2)], name="x", title=name, axis=name))
    found = ElementTree.fromstring(drawn.replace("xlink:", ""))
    texts = ["".join(t.itertext()) for t in found.iter("text")]
    assert label(name) in texts
    assert {e.tag for e in found.iter()} <= {"svg", "g", "path", "text", "use", "defs", "clipPath", "rect"}


def test_plots_have_unique_ids_and_refer_only_to_their_own() -> None:
    seen: set[str] = set()
    for drawn in drawings():
        ids = re.findall(r'\bid="([^"]+)"', drawn)
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        assert set(re.findall(r'(?:href="|url\()#([\w-]+)', drawn)) == set(ids)
        seen |= set(ids)


def test_plots_have_no_style_attribute_date_or_url() -> None:
    for drawn in drawings():
        assert not re.search(r"style|https?:|<\?xml|DOCTYPE|metadata|20\d\d-\d\d-\d\d", drawn)


def test_every_color_has_a_class_for_dark_mode() -> None:
    for drawn in drawings():
        used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', drawn))
        assert used <= set(NAMES)


def test_a_long_name_is_truncated_with_an_ellipsis() -> None:
    assert label("x" * 100).endswith("…")
    assert len(label("x" * 100)) <= 46


@pytest.mark.parametrize("metric", ["macro_f1", "auroc", "mcc"])
def test_the_learning_curve_is_drawn_with_any_baseline_names(tmp_path: Path, metric: str) -> None:
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


def test_the_learning_curve_is_drawn_without_losses_and_baselines(tmp_path: Path) -> None:
    bare = dataclasses.replace(full(), curve={0: full().curve[0]}, losses=(), val_baselines={})
    save_learning_curve(bare, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5_000
