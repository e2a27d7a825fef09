"""Documents as Markdown: without pictures and without any text of the data."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.optional import Failure
from core.report.document import (
    Block,
    Bullets,
    Cell,
    Document,
    Facts,
    Findings,
    Mistakes,
    Picture,
    Prose,
    Table,
    left_out,
)
from core.report.text import begins


def render(document: Document, failures: Iterable[Failure] = ()) -> str:
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
            return _table(block)
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


def _table(table: Table) -> str:
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    for i in table.strong:
        rows[i][0] = f"**{rows[i][0]}**" if rows[i][0] else ""
    parts = [plain(table.title) + ":"] if table.title else []
    head = [plain(column) for column in table.columns]
    rule = ["---" if i < table.left else "---:" for i in range(len(head))]
    parts.append("\n".join(f"| {' | '.join(texts)} |" for texts in [head, rule, *rows]))
    return "\n\n".join([*parts, *([_bullets(table.notes)] if table.notes else [])])


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
