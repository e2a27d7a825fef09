"""What a report is made of, before it is Markdown or HTML: sections of tables, lists, words and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.report.inputs import Mistake

UNDEFINED = "–"

Outcome = Literal["better", "worse", "even", "open"]
"""Of the student against another: shown to be better, or worse, no difference shown, not compared."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and in smaller print what belongs to it: an interval, as a rule."""

    text: str
    detail: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first `left` columns are words. `strong` names the rows to look at first."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    left: int = 1
    strong: frozenset[int] = frozenset()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph; a warning is set apart."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences, each on its own."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a picture's legend; `dash` is an SVG stroke-dasharray, empty for a solid line."""

    label: str
    colour: str
    mark: Literal["line", "point", "square", "diamond", "band"] = "line"
    dash: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot that a page shows: `paint` fills a matplotlib figure of `size` inches."""

    name: str
    title: str
    description: str
    paint: Callable[[Any], None]
    keys: Sequence[Key] = ()
    note: str = ""
    size: tuple[float, float] = (4.6, 3.2)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of the student against one other: by metric an outcome and a sentence."""

    against: str
    kind: str
    outcomes: Sequence[tuple[str, Outcome, str]]
    detectable: str


@dataclass(frozen=True, slots=True)
class Findings:
    """The verdict: one sentence first, then each comparison."""

    headline: str
    findings: Sequence[Finding]
    remarks: Sequence[str]


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Rows that were decided wrongly, with their texts: for the page alone."""

    rows: Sequence[Mistake]


Block = Table | Prose | Bullets | Picture | Findings | Mistakes


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it; `key` names it in the page's address."""

    key: str
    title: str
    blocks: Sequence[Block] = field(default=())


def cells(*texts: str) -> list[Cell]:
    """A row without details."""
    return [Cell(text) for text in texts]
