"""The summary page is self-contained and safe for any run name."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Page as BrowserPage

from core.store import Store
from core.summary.summarize import PAGE_COLUMNS as COLUMNS
from core.summary.summarize import summarize_runs
from tests.core.summary.making import metrics_file, put, result, write_facts, write_run

pytestmark = pytest.mark.parametrize("root", ["disk"], indirect=True)
HOSTILE = '<script>alert(1)</script>"onload=x&'


class Page(HTMLParser):
    """The tags, attributes and cells of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "td":
            self.cells.append("")
        self._in_cell = tag == "td" or (tag == "small" and self._in_cell)

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


def rendered(store: Store) -> str:
    return summarize_runs(store, "both", "html")[1]


def test_every_text_of_a_run_is_escaped(store: Store) -> None:
    write_run(store, HOSTILE.replace("/", "\\"), splits=["test"], modes=["reasoning"])
    write_run(store, "b", splits=["test"], modes=["reasoning"])
    content = result("b").to_json()
    content["teacher_summary"]["teacher_model"] = HOSTILE
    put(store, "runs/b/run_summary.json", content)
    text = rendered(store)
    page = Page(text)
    assert page.tags.count("script") == 1
    assert not any(name.startswith("on") for name, _ in page.attributes)
    rows = [page.cells[i : i + len(COLUMNS)] for i in range(0, len(page.cells), len(COLUMNS))]
    assert rows[0][0] == HOSTILE.replace("/", "\\")
    assert rows[1][COLUMNS.index("teacher_model")] == HOSTILE


def test_only_the_page_script_may_run_and_nothing_is_fetched(store: Store) -> None:
    write_run(store, "a")
    text = rendered(store)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text


def test_intervals_follow_their_values_and_digests_are_short(store: Store) -> None:
    content = {**metrics_file("a"), "dataset_fingerprint": "0123456789abcdef"}
    ends = {"macro_f1": {"low": 0.8, "high": 0.95}}
    put(store, "runs/a/student_phase/metrics_test.json", {**content, "intervals": ends})
    write_facts(store, "a")
    row = dict(zip(COLUMNS, Page(rendered(store)).cells, strict=True))
    assert row["macro_f1"] == "0.9000.800–0.950"
    assert row["accuracy"] == "0.800"
    assert row["auroc"] == ""
    assert (row["data"], row["commit"]) == ("01234567", "cccccccc")
    assert (row["US$"], row["seconds"], row["step"]) == ("1.50", "20", "40")


def test_the_table_is_sorted_and_filtered_in_a_browser(
    store: Store, chromium_page: BrowserPage, tmp_path: Path
) -> None:
    for name, macro_f1 in (("a", 0.25), ("b", None), ("c", 0.75)):
        write_run(store, name, splits=["test"], modes=["reasoning"], macro_f1=macro_f1)
    path = tmp_path / "summary.html"
    path.write_text(rendered(store), encoding="utf-8")
    chromium_page.goto(path.as_uri())

    def runs() -> list[str]:
        return chromium_page.locator("tbody tr:visible td:first-child").all_text_contents()

    head = chromium_page.get_by_role("button", name="macro_f1")
    head.click()
    assert runs() == ["a", "c", "b"]
    head.click()
    assert runs() == ["c", "a", "b"], "undefined stays last"
    chromium_page.locator("input.filter").fill("0.750")
    assert runs() == ["c"]
    assert chromium_page.locator("output").text_content() == "1 of 3 rows"
