"""`report.html`: one page that needs nothing else, offline and on a phone.

Every text of data and models is escaped, and no script or style but the page's own may run: the policy
names them by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.optional import Failures, Part, strict
from core.report.blocks import Block, Cell, Picture, Section, Table
from core.report.document import left_out, sections
from core.report.inputs import Report
from core.report.plots import svg
from core.report.scorers import student
from core.report.verdict import shown
from core.report.words import begins, name_of, number, with_interval

LONGEST = 4_000
"""Characters of a text or a reasoning that the page shows."""
WORDS = {
    "better": "shown to be better",
    "worse": "shown to be worse",
    "even": "no difference shown",
    "open": "not compared",
}
SIGNS = {"better": "▲", "worse": "▼", "even": "=", "open": "?"}


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure to see first."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """What a page is called, and facts in a line below its name."""

    title: str
    eyebrow: str
    name: str
    facts: Sequence[str]


def render(report: Report, failures: Failures | None = None) -> str:
    """The page, as text that UTF-8 can hold; `failures` gains sections and plots that fail."""
    failures = failures if failures is not None else strict()
    facts = (f"measured on {report.split}", report.setup.base_model, report.generated_at)
    head = Head(f"Report of {report.run_name}", "Report of a run", report.run_name, facts)
    built = sections(report, failures)
    with failures.optional(Part.SECTION, "models"):
        built.append(_models(report))
    shown: list[Tile] = failures.attempt(Part.SECTION, "tiles", lambda: tiles(report), list)
    drawn = _drawings(built, failures)
    return _page(head, [*left_out(failures), *built], shown, drawn)


def page(head: Head, sections: Sequence[Section], tiles: Sequence[Tile]) -> str:
    """Any page of this look, as text that UTF-8 can hold. A plot that fails is named in its place."""
    return _page(head, sections, tiles, _drawings(sections, Failures()))


def _drawings(sections: Sequence[Section], failures: Failures) -> dict[int, Markup]:
    """Every picture as markup, by its identity; of one that fails, the words that say so."""
    found: dict[int, Markup] = {}
    for picture in [b for section in sections for b in section.blocks if isinstance(b, Picture)]:
        with failures.optional(Part.PLOT, picture.title):
            # Markup already: its texts were escaped as the SVG was written.
            found[id(picture)] = Markup(svg.draw(picture))  # nosec B704  # XML, written again
    return found


def _page(
    head: Head, sections: Sequence[Section], tiles: Sequence[Tile], drawings: Mapping[int, Markup]
) -> str:
    script, style = (_part(name) for name in ("report.js", "report.css"))
    text = (
        _environment(drawings)
        .get_template("report.html.j2")
        .render(
            head=head,
            sections=sections,
            tiles=tiles,
            words=WORDS,
            signs=SIGNS,
            script=Markup(script),  # nosec B704  # our own file
            style=Markup(style),  # nosec B704  # our own file
            script_hash=_digest(script),
            style_hash=_digest(style),
        )
    )
    return text.encode("utf-8", "backslashreplace").decode()


def tiles(report: Report) -> list[Tile]:
    """The student in a few numbers."""
    of = student(report)
    out = []
    for metric in dict.fromkeys([*shown(report), "accuracy"]):
        cell = with_interval(of["intervals"][metric])
        out.append(Tile(begins(name_of(metric)), cell.text, cell.detail))
    if "reliability" in of:
        out.append(Tile("Calibration error", number(of["reliability"]["expected_calibration_error"])))
    if of["threshold"] is not None:
        out.append(Tile("Threshold", number(of["threshold"])))
    usd = report.ledger.get("usd")
    if usd is not None:
        out.append(Tile("Cost", f"US$ {usd:.2f}"))
    if seconds := report.ledger.get("seconds"):
        out.append(Tile("Time", f"{sum(seconds.values()) / 60:.1f} min"))
    return out


def _models(report: Report) -> Section:
    rows = [
        [
            Cell(m.title),
            Cell(m.model_path, code=True),
            Cell(number(None if m.metrics is None else m.metrics["macro_f1"])),
        ]
        for m in report.models
    ]
    return Section("models", "Models", [Table(["", "where", f"macro-F1 on {report.split}"], rows, left=2)])


def _environment(drawings: Mapping[int, Markup]) -> Environment:
    environment = Environment(
        loader=PackageLoader("core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = partial(_drawn, drawings)
    environment.filters.update(kind=_kind, drawn=drawn, cut=_cut, name_of=name_of)
    return environment


def _kind(block: Block) -> str:
    return type(block).__name__


def _drawn(drawings: Mapping[int, Markup], picture: Picture) -> Markup:
    return drawings.get(id(picture), Markup('<p class="warning">This plot could not be drawn.</p>'))


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} … (the first {LONGEST:,} of {len(text):,} characters)"


def _part(name: str) -> str:
    return resources.files("core.report").joinpath(f"templates/{name}").read_text("utf-8")


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
