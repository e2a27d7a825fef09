"""How the pictures look: few colours, that stay apart for colour-blind readers, and quiet axes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

BLUE, RED, GREEN, PINK, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
INK, MUTED, GRID, PAPER = "#1b1f24", "#5f6872", "#d9dde2", "#ffffff"
NAMES: Mapping[str, str] = {
    BLUE: "blue",
    RED: "red",
    GREEN: "green",
    PINK: "pink",
    ORANGE: "orange",
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
}
"""What a page calls each colour, so that it can give it another value in the dark. The five colours are
of Okabe & Ito (2008)."""

STUDENT = BLUE
OTHERS = ((RED, "6 2"), (GREEN, "2 2"), (PINK, "8 2 2 2"), (ORANGE, "4 1"), (MUTED, "1 2"), (INK, "10 3"))
"""Colour and dashes of each scorer beside the student."""

SETTINGS: Mapping[str, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
    "text.parse_math": False,  # a dollar in a title is a dollar
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.unicode_minus": True,
    "lines.solid_capstyle": "round",
}

_LONGEST = 46
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def painting(more: Mapping[str, Any]) -> AbstractContextManager[None]:
    """While it lasts, figures and all their texts are made with these settings."""
    import matplotlib

    settings: Any = {**SETTINGS, **more}
    return matplotlib.rc_context(settings)


def dashes(pattern: str) -> Any:
    """A stroke-dasharray as matplotlib takes it."""
    return (0, [float(part) for part in pattern.split()]) if pattern else "-"


def label(text: str, longest: int = _LONGEST) -> str:
    """A name as one line that fits; what neither XML nor a font can show is U+FFFD."""
    one_line = _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return one_line if len(one_line) <= longest else f"{one_line[: longest - 1]}…"


def tidy(panel: Any) -> None:
    """A light grid behind, and no frame."""
    panel.grid(visible=True, color=GRID, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=2.5)


def unit_square(panel: Any) -> None:
    """Both axes from 0 to 1."""
    panel.set_xlim(-0.02, 1.02)
    panel.set_ylim(-0.02, 1.02)
    tidy(panel)
