"""Pictures that can stand beside each other in one page, whatever their names say."""

from __future__ import annotations

import functools
import re
from xml.etree import ElementTree

import pytest

from core.errors import strict
from core.report.document import Picture, run_report
from core.report.drawing import NAMES, draw, label
from core.report.plots import ForestRow, forest
from tests.core.report.making import full

EVIL = (
    "</text><script>x</script>",
    "a & b < c",
    "$\\frac{1}{0}$ and $",
    "_hidden",
    "\x00\x07 \ud800",
    "𝕏 漢字",
)


def pictures() -> list[Picture]:
    return [
        block
        for s in run_report(full(), strict()).sections
        for block in s.blocks
        if isinstance(block, Picture)
    ]


@functools.cache
def drawings() -> list[str]:
    return [draw(p) for p in pictures()]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_written_as_it_is_and_is_no_markup(name: str) -> None:
    drawn = draw(forest([ForestRow(name, 0.1, 0.0, 0.2)], name="x", title=name, axis=name))
    found = ElementTree.fromstring(drawn.replace("xlink:", ""))
    texts = ["".join(t.itertext()) for t in found.iter("text")]
    assert label(name) in texts
    assert {e.tag for e in found.iter()} <= {"svg", "g", "path", "text", "use", "defs", "clipPath", "rect"}


def test_pictures_of_one_page_share_no_name_and_refer_to_their_own_parts() -> None:
    seen: set[str] = set()
    for drawn in drawings():
        ids = re.findall(r'\bid="([^"]+)"', drawn)
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        assert set(re.findall(r'(?:href="|url\()#([\w-]+)', drawn)) == set(ids)
        seen |= set(ids)


def test_a_picture_has_no_style_of_its_own_no_date_and_no_address() -> None:
    for drawn in drawings():
        assert not re.search(r"style|https?:|<\?xml|DOCTYPE|metadata|20\d\d-\d\d-\d\d", drawn)


def test_every_colour_has_a_name_that_the_page_may_change() -> None:
    for drawn in drawings():
        used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', drawn))
        assert used <= set(NAMES)


def test_equal_pictures_are_equal_text() -> None:
    assert [draw(p) for p in pictures()] == drawings()


def test_a_long_name_is_cut_with_a_sign() -> None:
    assert label("x" * 100).endswith("…")
    assert len(label("x" * 100)) <= 46
