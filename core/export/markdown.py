"""Markdown that names and numbers cannot break: tables, code, plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence

UNDEFINED = "–"


def plain(value: object) -> str:
    """Text as one line that no Markdown or HTML reader takes for markup."""
    one_line = " ".join(str(value).split())
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", escaped)


def code(value: object) -> str:
    """A path or a name as a code span, also inside a table."""
    one_line = " ".join(str(value).split())
    longest = max((len(run) for run in re.findall(r"`+", one_line)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{one_line}{pad}{fence}".replace("|", r"\|")


def number(value: float | None, digits: int = 4) -> str:
    """A metric, or a dash where it is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table whose first `left` columns are aligned left, all others right. Cells are Markdown."""
    marks = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, marks, *rows])
