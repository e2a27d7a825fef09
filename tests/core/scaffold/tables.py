"""Tables of texts about orders, as users have them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from core.scaffold import Options, Roles, detect, find_roles, read_sample

WORDS = ("invoice", "parcel", "refund", "window", "garden", "market", "bridge", "harbor", "letter", "ticket")


def text(i: int) -> str:
    """A text of several words, different for each number."""
    return f"My {WORDS[i % 10]}, number {i * 7919 % 10007}, is late; please look at the {WORDS[i * 3 % 7]}"


def texts(n: int = 60) -> list[list[str]]:
    """Rows of a text and a label, one in three 1, below their header."""
    return [["text", "label"], *([text(i), str(int(i % 3 == 0))] for i in range(n))]


def with_column(rows: Sequence[Sequence[str]], name: str, values: Sequence[str]) -> list[list[str]]:
    """The rows with another column, whose values are repeated."""
    head, *body = rows
    return [[*head, name], *([*row, values[i % len(values)]] for i, row in enumerate(body))]


def written(rows: Sequence[Sequence[str]], separator: str = ",") -> str:
    """The rows as CSV."""
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n").writerows(rows)
    return out.getvalue()


def write(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    path.write_text(written(rows), encoding="utf-8")
    return path


def roles(path: Path, **options: object) -> Roles:
    """What `init` finds in a table."""
    return find_roles(read_sample(detect(str(path))), Options(**options))  # type: ignore[arg-type]
