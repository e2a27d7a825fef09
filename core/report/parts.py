"""Parts of the rows, each with its rows and interval, and whether what the student writes is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluation.slices import LEAST_ROWS
from core.report.blocks import UNDEFINED, Block, Cell, Picture, Prose, Section, Table
from core.report.inputs import Report
from core.report.plots.forest import Row, forest
from core.report.scorers import student
from core.report.words import grouped, name_of, number, plural, span, with_interval

SLICED = ("accuracy", "macro_f1", "precision", "recall", "auroc")
_MOST_LISTED = 3
FAITHFUL: Mapping[str, str] = {
    "with_reasoning": "answers whose reasoning can be read",
    "cites_a_rule": "reasonings that cite a rule that exists",
    "without_invented_rule": "reasonings that cite no rule that does not exist",
    "without_invented_quote": "reasonings that quote only words of the text",
    "rules_that_exist": "citations of a rule that exists",
    "quotes_that_occur": "quotations that occur in the text",
    "label_is_more_probable": "stated labels that the model holds the more probable one",
    "label_is_decision": "stated labels that are the decision at the threshold",
    "label_is_gold": "stated labels that are right",
}


def slices(report: Report) -> Section | None:
    """The student on parts of the rows; None where there are none."""
    found = report.analysis["slices"]
    if not found:
        return None
    intro = (
        f"{student(report)['title']} on parts of {report.split}. Many parts are looked at, so that one of "
        "them is low by chance: none is tested against the rest, and an interval that holds the value of all "
        f"rows says nothing. Parts of fewer than {LEAST_ROWS} rows are left out."
    )
    blocks: list[Block] = [Prose(intro)]
    for by in dict.fromkeys(s["by"] for s in found):
        of = [s for s in found if s["by"] == by]
        picture = _picture(report, by, of)
        blocks += [*([picture] if picture else []), table(by, of, title=f"By {by}")]
    return Section("slices", "Parts of the rows", blocks)


def table(by: str, of: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    """Parts of the rows with their metrics; undefined ones have their reasons below."""
    rows = [
        [
            Cell(s["name"]),
            Cell(f"{s['rows']:,}"),
            Cell(f"{s['positive']:,}"),
            *(with_interval(s["metrics"][m]) for m in SLICED),
        ]
        for s in of
    ]
    return Table([by, "rows", "positive", *map(name_of, SLICED)], rows, title=title, notes=_why(of))


def _why(of: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each reason for a dash, or for an interval to beware of, with the metrics and parts it concerns."""
    out = []
    for key, word in (("undefined", " undefined"), ("note", "")):
        found = grouped(
            (f"{name_of(m)} of {s['name']}", why) for s in of for m in SLICED if (why := s["metrics"][m][key])
        )
        out += [f"{_listed(names)}{word}: {why}." for why, names in found.items()]
    return out


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _picture(report: Report, by: str, of: Sequence[Mapping[str, Any]]) -> Picture | None:
    rows = [
        Row(f"{s['name']}, n = {s['rows']:,}", m["value"], m["low"], m["high"])
        for s in of
        if (m := s["metrics"]["accuracy"])["value"] is not None
    ]
    if not rows:
        return None
    number_of = [s["by"] for s in report.analysis["slices"]].index(by)
    overall = student(report)["intervals"]["accuracy"]["value"]
    return forest(
        rows,
        name=f"slices-{number_of}",
        title=f"Accuracy by {by}",
        axis="accuracy; the upright line is that of all rows",
        line=overall,
    )


def faithfulness(report: Report) -> Section | None:
    """Whether rules, quotations and labels in the student's reasoning are true."""
    found = report.analysis["faithfulness"]
    if found is None:
        return None
    rows = []
    for name, words in FAITHFUL.items():
        c = found[name]
        share = c["share"]
        rows.append(
            [
                Cell(words),
                Cell(f"{c['count']:,} of {c['total']:,}"),
                Cell(number(share["value"]), span(share["low"], share["high"])),
            ]
        )
    asked = plural(found["with_reasoning"]["total"], "row")
    intro = (
        f"The student's reasoning on {asked} of {report.analysis['rows']:,}. That a rule exists and a "
        "quotation occurs does not say that the one follows from the other."
    )
    why = [f"{FAITHFUL[n]}: {c['share']['undefined']}." for n, c in found.items() if c["share"]["undefined"]]
    table = Table(["", "count", "share"], rows, notes=[f"{UNDEFINED} {w}" for w in why])
    return Section("faithfulness", "Whether the reasoning is true", [Prose(intro), table])
