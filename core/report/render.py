"""Documents as Markdown and as HTML, and numbers and lists as readers see them.

Markdown has no pictures and no text of the data. The page needs nothing else, offline and on a phone: every
text of data and models is escaped, and only the page's own script and style may run, which the
Content-Security-Policy names by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.config import METRICS
from core.errors import Failure, Failures, Part
from core.evaluation.comparison import MetricDifference, signed_end
from core.intervals import Difference, Interval
from core.records import BINARY
from core.report import drawing
from core.report.document import (
    CONCLUSIONS,
    UNDEFINED,
    Block,
    Bullets,
    Cell,
    Conclusion,
    Document,
    Facts,
    Findings,
    Mistakes,
    Picture,
    Prose,
    Section,
    Table,
    cells,
    conclusion,
)

DIGITS = 3
GOLD_LABELS = {code: f"gold {BINARY.title(label)}" for label, code in enumerate(BINARY.codes)}
"""How reports name the gold labels, by their codes in files."""
LONGEST = 4_000
"""Characters of a text or a reasoning that the page shows."""
_SIGNS: Mapping[Conclusion, str] = {"better": "▲", "worse": "▼", "even": "=", "open": "?"}


def render_markdown(document: Document, failures: Iterable[Failure] = ()) -> str:
    """Return the document as Markdown; optional parts that failed are listed first."""
    parts = [f"# {plain(document.title)}"]
    if document.generated_at is not None:
        parts.append(f"Generated at {document.generated_at}.")
    parts += [f"{name}: {code(value)}" for name, value in document.lines]
    for section in (*left_out(failures), *document.sections):
        parts += [f"## {plain(section.title)}", *filter(None, map(_block, section.blocks))]
    return "\n\n".join(parts).encode("utf-8", "backslashreplace").decode() + "\n"


def _block(block: Block) -> str:
    match block:
        case Table():
            rows = [[_cell(cell) for cell in row] for row in block.rows]
            for i in block.strong:
                rows[i][0] = f"**{rows[i][0]}**" if rows[i][0] else ""
            head = [plain(column) for column in block.columns]
            rule = ["---" if i < block.left else "---:" for i in range(len(head))]
            table = "\n".join(f"| {' | '.join(texts)} |" for texts in [head, rule, *rows])
            title, notes = f"{plain(block.title)}:" if block.title else "", _bullets(block.notes)
            return "\n\n".join(filter(None, (title, table, notes)))
        case Prose():
            return f"**{plain(block.text)}**" if block.warning else plain(block.text)
        case Bullets():
            return _bullets(block.items)
        case Facts():
            return "\n".join(f"- {name}: {_cell(cell)}" for name, cell in block.items)
        case Findings():
            details = [begins(d.verdict) for found in block.against.values() for d in found]
            return _bullets([block.headline, *block.remarks, *details])
        case Picture() | Mistakes():  # shown on the page only
            return ""


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {plain(item)}" for item in items)


def _cell(cell: Cell) -> str:
    text = code(cell.text) if cell.code else plain(cell.text)
    return f"{text} ({plain(cell.detail)})" if cell.detail else text


def plain(value: object) -> str:
    """Return text as one line that no Markdown or HTML reader takes for markup."""
    one_line = " ".join(str(value).split())
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", escaped)


def code(value: object) -> str:
    """Return a path or a name as a code span that also works inside a table."""
    one_line = " ".join(str(value).split())
    longest = max((len(run) for run in re.findall(r"`+", one_line)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{one_line}{pad}{fence}".replace("|", r"\|")


def render_page(document: Document, failures: Failures) -> str:
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
            longest=LONGEST,
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


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def left_out(failures: Iterable[Failure]) -> list[Section]:
    """Return the section that lists each optional part that failed; no section if none did.

    Drawing plots may add failures, so the renderers add this section, in front of all others.
    """
    rows = [cells(failure.part, failure.error, failure.message) for failure in failures]
    if not rows:
        return []
    are = "1 optional part is" if len(rows) == 1 else f"{len(rows)} optional parts are"
    text = (
        f"{are} missing from this run, because of an error or because the data makes it impossible. The "
        "student, its predictions and its decision do not depend on them. Run the same command again to "
        "retry them; train.log has the details."
    )
    table = Table(["part", "error", "cause"], rows, left=3)
    return [Section("left-out", "Left out of this run", [Prose(text, warning=True), table])]


def number(value: float | None, digits: int = DIGITS) -> str:
    """Return a metric, or a dash if it is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign; a value that is 0 to all digits shown has none."""
    if value is None:
        return UNDEFINED
    shown = f"{value:+.{DIGITS}f}"
    return shown[1:] if float(shown) == 0 else shown


def count(value: float | None) -> str:
    """Return a whole number with thousands separators."""
    return UNDEFINED if value is None else f"{value:,.0f}"


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals."""
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def span(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Return an interval, empty if there is none. Signed ends have enough digits to differ from 0."""
    if low is None or high is None:
        return ""
    if sign:
        return " to ".join(signed(end) if end == 0 else signed_end(end) for end in (low, high))
    return f"{number(low)} to {number(high)}" if low < 0 else f"{number(low)}–{number(high)}"


def with_interval(of: Interval | Difference | MetricDifference) -> Cell:
    """Return a value with its interval; differences have a sign."""
    if isinstance(of, Interval):
        return Cell(number(of.value), span(of.low, of.high))
    return Cell(signed(of.value), span(of.low, of.high, sign=True))


def name_of(metric: str) -> str:
    """Return a metric's name as sentences have it."""
    name = "f1" if metric == "F1" else metric
    return METRICS.get(name).title if name in METRICS else metric.replace("_", " ")


def and_(items: Sequence[str]) -> str:
    """Return "one, two and three"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def plural(n: int, noun: str) -> str:
    """Return "1 row", "1,000 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def were(n: int, noun: str) -> str:
    """Return "1 row was", "1,000 rows were"."""
    return f"{plural(n, noun)} {'was' if n == 1 else 'were'}"


def begins(sentence: str) -> str:
    """Return a sentence with a capital first letter, except for names that are written small."""
    return sentence if sentence.startswith("macro-F1") else sentence[:1].upper() + sentence[1:]


def sentence(text: str) -> str:
    """Return a notice with a capital first letter and a full stop."""
    text = begins(text)
    return text if text.endswith((".", "!", "?")) else f"{text}."


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the first parts by their second part, in order: names that share a reason."""
    out: dict[str, list[str]] = {}
    for name, reason in pairs:
        out.setdefault(reason, []).append(name)
    return out
