"""Documents as one HTML page that needs nothing else, offline and on a phone.

Every text of data and models is escaped, and only the page's own script and style may run: the
Content-Security-Policy names them by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.optional import Failures, Part
from core.report.document import CONCLUSIONS, Conclusion, Document, Picture, Table, conclusion, left_out
from core.report.plots import drawing
from core.report.text import begins, name_of

LONGEST = 4_000
"""Characters of a text or a reasoning that the page shows."""
_SIGNS: Mapping[Conclusion, str] = {"better": "▲", "worse": "▼", "even": "=", "open": "?"}


def render(document: Document, failures: Failures) -> str:
    """Return the page, as text that UTF-8 can encode.

    Plots that fail are recorded in `failures`, whose list is the first section.
    """
    drawings: dict[int, Markup] = {}
    for picture in (b for section in document.sections for b in section.blocks if isinstance(b, Picture)):
        with failures.optional(Part.PLOT, picture.title):
            # Markup already: its texts were escaped when the SVG was written.
            drawings[id(picture)] = Markup(drawing.draw(picture))  # nosec B704  # XML, written again
    templates = resources.files("core.report") / "templates"
    script, style = ((templates / name).read_text("utf-8") for name in ("report.js", "report.css"))
    text = (
        _environment(drawings)
        .get_template("report.html.j2")
        .render(
            document=document,
            sections=[*left_out(failures), *document.sections],
            words=CONCLUSIONS,
            signs=_SIGNS,
            script=Markup(script),  # nosec B704  # our own file
            style=Markup(style),  # nosec B704  # our own file
            script_hash=_digest(script),
            style_hash=_digest(style),
        )
    )
    return text.encode("utf-8", "backslashreplace").decode()


def _environment(drawings: Mapping[int, Markup]) -> Environment:
    environment = Environment(
        loader=PackageLoader("core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failed = Markup('<p class="warning">This plot could not be drawn.</p>')
    environment.filters.update(
        kind=lambda block: type(block).__name__,
        rows=_rows,
        drawn=lambda picture: drawings.get(id(picture), failed),
        cut=_cut,
        name_of=name_of,
        conclusion=conclusion,
        begins=begins,
    )
    return environment


def _rows(table: Table) -> Markup:
    """The rows of a table. Not in the template, because a summary has more than 100,000 cells."""
    lines, classes = [], table.classes
    for i, row in enumerate(table.rows):
        strong = ' class="strong"' if i in table.strong else ""
        cells = []
        for cell, attributes in zip(row, classes, strict=True):
            text = f"<code>{escape(cell.text)}</code>" if cell.code else escape(cell.text)
            detail = f"<small>{escape(cell.detail)}</small>" if cell.detail else ""
            cells.append(f"<td{attributes}>{text}{detail}</td>")
        lines.append(f"<tr{strong}>{''.join(cells)}</tr>")
    return Markup("\n".join(lines))  # nosec B704  # every text was escaped


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} … (the first {LONGEST:,} of {len(text):,} characters)"


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
