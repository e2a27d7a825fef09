"""Parts of a report that fail are listed in it, and the rest is written."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from core.errors import Failure, Failures, Part
from core.report import plots, run_sections, scorer_sections, verdict
from core.report.render import left_out
from tests.core.report.making import as_markdown, as_page, full, full_page

LEFT_OUT = "Left out of this run"


def broken(*arguments: object, **named: object) -> object:
    raise LookupError("no <such> column")


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        (verdict, "headline", "verdict"),
        (run_sections, "_token_table", "costs"),
        (scorer_sections, "Mistakes", "errors"),
        (plots, "funnel", "teacher"),
    ],
)
def test_a_failing_section_is_listed_and_the_others_are_written(
    monkeypatch: pytest.MonkeyPatch, module: object, function: str, name: str
) -> None:
    whole = as_markdown(full())
    monkeypatch.setattr(module, function, broken)
    failures = Failures()
    shown = as_page(full(), failures, pictures=False)
    written = as_markdown(full(), failures)
    assert list(failures) == [Failure(f"Section of the report: {name}", "LookupError", "no <such> column")]
    for text in (shown, written):
        assert LEFT_OUT in text
        assert f"Section of the report: {name}" in text
        assert "no &lt;such&gt; column" in text
    headings = [line for line in written.splitlines() if line.startswith("## ")]
    assert headings[0] == f"## {LEFT_OUT}"
    expected = [line for line in whole.splitlines() if line.startswith("## ")]
    assert len(headings[1:]) == len(expected) - 1
    assert set(headings[1:]) < set(expected)


def test_failing_plots_are_listed_and_the_page_is_written_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plots = full_page().count("<figure>")
    monkeypatch.setattr(Figure, "savefig", broken)
    failures = Failures()
    shown = as_page(full(), failures)
    assert plots == len(failures) > 3
    assert {f.error for f in failures} == {"LookupError"}
    assert all(f.part.startswith(f"{Part.PLOT}: ") for f in failures)
    assert "Plot: Learning curve on val" in failures
    assert shown.count("This plot could not be drawn.") == plots
    assert '<svg class="plot"' not in shown
    written = as_markdown(full(), failures)
    assert all(f.part in written for f in failures), "a reader of Markdown sees it too"


def test_a_strict_report_raises_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_sections, "_reasons", broken)
    with pytest.raises(LookupError):
        as_markdown(full())
    with pytest.raises(LookupError):
        as_page(full())


def test_a_report_without_failures_has_no_section_of_failures() -> None:
    assert left_out(Failures()) == []
    assert LEFT_OUT not in as_markdown(full(), Failures())
    assert LEFT_OUT not in as_page(full(), Failures(), pictures=False)
