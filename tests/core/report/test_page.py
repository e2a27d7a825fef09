"""The page in a real browser: self-contained, with plots, safe for any data, readable on a phone."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page

from core.config import ThresholdConfig
from core.report.render import count
from tests.core.report.making import SCORERS, as_page, full, full_page, usual

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "<svg onload=alert(4)>",
    "{{ 7 * 7 }} $x^2$ & &lt;b&gt; 'a' `b`",
    "\x00\x1b[31m \ud800 \u202e</style><style>*{display:none}</style>",
)


@dataclasses.dataclass
class Opened:
    """An open page, with its console messages, errors and dialogs, and its requests."""

    page: Page
    said: list[str] = dataclasses.field(default_factory=list)
    requests: list[str] = dataclasses.field(default_factory=list)

    def open(self, html: str, path: Path) -> None:
        path.write_text(html, encoding="utf-8")
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def _refuse(self, dialog: Dialog) -> None:
        self.said.append(dialog.message)
        dialog.dismiss()


Open = Callable[[str], Opened]


@pytest.fixture
def opened(chromium_page: Page, tmp_path: Path) -> Open:
    def of(html: str) -> Opened:
        found = Opened(chromium_page)
        found.open(html, tmp_path / "report.html")
        return found

    return of


def test_the_page_loads_without_requests_and_errors(opened: Open, tmp_path: Path) -> None:
    found = opened(full_page())
    assert found.requests == [(tmp_path / "report.html").as_uri()]
    assert found.said == []


def test_every_picture_is_drawn(opened: Open) -> None:
    found = opened(full_page()).page
    drawn = found.locator("svg.plot").evaluate_all(
        "all => all.map(e => [e.getBBox().width, e.getBBox().height, e.querySelectorAll('path').length,"
        " e.getAttribute('aria-label'), e.getAttribute('role')])"
    )
    assert len(drawn) >= 11
    for width, height, paths, label, role in drawn:
        assert min(width, height) > 50
        assert paths > 3
        assert label
        assert role == "img"


def test_plots_keep_their_colors_under_the_content_security_policy(opened: Open) -> None:
    """Style attributes are dropped by the policy: lines would become black areas."""
    found = opened(full_page()).page
    strokes = found.locator("svg.plot path.s-blue").evaluate_all(
        "all => all.map(e => getComputedStyle(e).stroke)"
    )
    assert set(strokes) == {"rgb(0, 114, 178)"}
    fills = found.locator("svg.plot path.s-grid").evaluate_all(
        "all => all.map(e => getComputedStyle(e).fill)"
    )
    assert set(fills) == {"none"}


@functools.cache
def wide_page() -> str:
    """A page with names and texts that are wider than any screen."""
    long = "W" * 300
    changed: dict[str, Any] = {
        "run_name": long,
        "provenance": (("digest", long),),
        "notices": (long,),
        "texts": (long,),
    }
    changed |= {"files": {long: long}, "reasonings": (long,)}
    return as_page(full(**changed))


@pytest.mark.parametrize("width", [390, 1200])
def test_only_tables_scroll_sideways(opened: Open, chromium_page: Page, width: int) -> None:
    chromium_page.set_viewport_size({"width": width, "height": 800})
    found = opened(wide_page()).page
    assert found.evaluate("document.documentElement.scrollWidth") <= width
    assert found.locator(".box").first.evaluate("e => e.scrollWidth > e.clientWidth") or width == 1200


def test_the_printed_page_is_white_and_fits_the_widest_table(opened: Open, chromium_page: Page) -> None:
    chromium_page.emulate_media(media="print", color_scheme="dark")
    chromium_page.set_viewport_size({"width": 720, "height": 1000})  # A4 with margins, in CSS pixels
    found = opened(full_page()).page
    assert found.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert found.evaluate("document.documentElement.scrollWidth") <= 720


def test_texts_of_data_and_models_are_shown_and_never_executed(opened: Open) -> None:
    scorers = [
        dataclasses.replace(s, title=f"{s.title} {hostile}")
        for s, hostile in zip(SCORERS, HOSTILE, strict=False)
    ]
    ways: dict[str, Any] = {
        "texts": HOSTILE * 20,
        "reasonings": HOSTILE * 20,
        "scorers": scorers,
        "teacher": False,
    }
    given: dict[str, Any] = {
        "run_name": HOSTILE[1],
        "notices": HOSTILE,
        "untested": HOSTILE,
        "provenance": ((HOSTILE[0], HOSTILE[2]),),
    }
    found = opened(as_page(usual(rows=120, **ways, **given)))
    assert found.said == []
    assert len(found.requests) == 1
    assert found.page.locator("script").count() == 1
    assert found.page.locator("img").count() == 0
    shown = found.page.locator("#mistakes").inner_text()
    for hostile in HOSTILE[:5]:
        assert hostile in shown
        assert found.page.locator("#untested").get_by_text(hostile, exact=True).count() == 1
    pictures = " ".join(found.page.locator("svg.plot text").all_text_contents())
    assert f"{SCORERS[1].title} {HOSTILE[1]}"[:30] in pictures
    titles = found.page.locator(".keys").all_inner_texts()
    assert any(HOSTILE[2] in text for text in titles)


def test_the_search_filters_errors_by_text_and_kind(opened: Open) -> None:
    report = usual(rows=120, texts=[f"Needle number {i} in a haystack" for i in range(120)])
    found = opened(as_page(report, pictures=False)).page
    wanted = report.mistakes[3].text
    found.locator("#search").fill(wanted.upper())
    visible = found.locator("article.mistake:visible")
    assert wanted in visible.first.inner_text()
    assert 1 <= visible.count() < len(report.mistakes)
    assert found.locator("#count").inner_text() == f"{visible.count()} of {len(report.mistakes)}"
    found.locator("#search").fill("")
    found.locator("#which").select_option("missed")
    assert visible.count() == sum(m.gold == 1 for m in report.mistakes)


def test_the_page_shows_the_measured_values(opened: Open) -> None:
    report = full()
    found = opened(full_page()).page
    of = report.student
    row = found.locator("#results tr.strong").first.inner_text()
    i = of.intervals["macro_f1"]
    assert f"{i.value:.3f}" in row
    assert f"{i.low:.3f}–{i.high:.3f}" in row
    counts = found.locator("#results svg.plot text").all_text_contents()
    assert of.counts is not None
    assert {count(n) for n in dataclasses.astuple(of.counts)} <= set(counts)
    errors = found.locator("article.mistake")
    assert errors.count() == len(report.mistakes)
    first = errors.first.inner_text()
    assert report.mistakes[0].text in first
    assert report.mistakes[0].id in first
    assert f"{report.mistakes[0].probability:.4f}" in first


def test_the_verdict_comes_before_all_numbers(opened: Open) -> None:
    main = opened(full_page()).page.locator("main").inner_text()
    assert main.index("the student beats the untrained model") < main.index("0.")


def test_a_page_without_threshold_and_comparisons_is_complete(opened: Open) -> None:
    hopeless = ThresholdConfig(objective="share_flagged", share=0.0001)
    report = usual(rows=60, threshold=hopeless, scorers=SCORERS[:1], teacher=False, reasoning=0)
    bare = dataclasses.replace(report, teacher=None, ledger=None, curve={}, losses=(), reads=())
    found = opened(as_page(bare))
    assert found.said == []
    text = found.page.locator("main").inner_text()
    assert "so the student beats nothing" in text
    assert "no other threshold was found" in text
    for key in ("comparisons", "teacher", "cost", "curve", "reads", "seeds", "faithfulness", "errors"):
        assert found.page.locator(f"#{key}").count() == 0


def test_a_long_text_is_truncated_with_its_length() -> None:
    report = usual(rows=60, scorers=SCORERS[:1], teacher=False, texts=["x" * 9_000] * 60)
    shown = as_page(report, pictures=False)
    assert "(the first 4,000 of 9,000 characters)" in shown
    assert "x" * 4_001 not in shown


def test_drawing_and_rendering_are_deterministic() -> None:
    assert as_page(full()) == full_page()


def test_ids_are_unique_and_all_links_resolve() -> None:
    text = full_page()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', text)) <= set(ids)
