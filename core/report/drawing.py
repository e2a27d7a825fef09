"""The style of plots, and their SVG for the page.

Few colors, which color-blind readers can distinguish, and light axes. The page's Content-Security-Policy
ignores style attributes, into which matplotlib writes colors and fonts, so they become SVG attributes. Each
color also gets a class, by which the page changes it in dark mode.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import Any

from core.report.document import LegendEntry, Mark, Picture

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
"""The class of each color on the page. The first five are those of Okabe & Ito (2008)."""

STUDENT = BLUE
OTHERS = ((RED, "6 2"), (GREEN, "2 2"), (PINK, "8 2 2 2"), (ORANGE, "4 1"), (MUTED, "1 2"), (INK, "10 3"))
"""Color and dashes of each scorer other than the student."""

_SETTINGS: Mapping[str, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, and readable for screen readers
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

_LONGEST, _LONGEST_DESCRIPTION = 46, 600
"""Characters of a name in a picture, and of a picture's label for screen readers."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_UNUSED = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", re.DOTALL)
_ROOT = re.compile(r'<svg [^>]*(viewBox="[^"]*")[^>]*>')
_STYLE = re.compile(' style="([^"]*)"')
_TAG = re.compile(r"<[^>]+>")  # matplotlib escapes both signs in texts and in attributes


def draw(picture: Picture) -> str:
    """Return the picture as an `<svg>` element. Equal pictures give equal text."""
    from matplotlib.figure import Figure

    out = io.StringIO()
    # The salt makes ids reproducible, and different for each picture of a page. The page chooses the fonts,
    # so matplotlib may lack a glyph.
    with warnings.catch_warnings(), painting({"svg.hashsalt": picture.name}):
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=picture.size)
        picture.paint(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    drawn = _UNUSED.sub("", out.getvalue())
    root = _ROOT.search(drawn)
    assert root is not None, "matplotlib writes an <svg> element"
    content = re.sub(r">\s+<", "><", _TAG.sub(_clean, drawn[root.end() :])).strip()
    title = escape(label(f"{picture.title}. {picture.description}", _LONGEST_DESCRIPTION))
    return f'<svg {root[1]} role="img" aria-label="{title}" class="plot" stroke-linejoin="round">{content}'


def _clean(tag: re.Match[str]) -> str:
    """Return a tag with attributes in place of its style, and without group ids, to which nothing refers."""
    text = re.sub('^<g id="[^"]*"', "<g", " ".join(tag[0].split())).replace(" xlink:href=", " href=")
    style = _STYLE.search(text)
    if style is None:
        return text
    # The page chooses the font family.
    pairs = [pair.split(": ", 1) for pair in style[1].split("; ") if not pair.startswith("font-family:")]
    classes = [f"{key[0]}-{NAMES[c]}" for key, c in pairs if key in ("fill", "stroke") and c in NAMES]
    if classes:
        pairs.append(["class", " ".join(classes)])
    attributes = "".join(f' {key}="{value}"' for key, value in pairs)
    return f"{text[: style.start()]}{attributes}{text[style.end() :]}"


def painting(more: Mapping[str, str]) -> AbstractContextManager[None]:
    """Apply the style, with these settings added, to figures that are painted inside the context."""
    import matplotlib

    settings: Any = {**_SETTINGS, **more}
    return matplotlib.rc_context(settings)


def key(label: str, color: str, mark: Mark = "line", dash: str = "") -> LegendEntry:
    """Return an entry of a legend."""
    return LegendEntry(label, NAMES[color], mark, dash)


def other_strokes(n: int) -> list[tuple[str, str]]:
    """Return color and dashes of `n` scorers other than the student."""
    return [OTHERS[i % len(OTHERS)] for i in range(n)]


def dashes(pattern: str) -> Any:
    """Return a stroke-dasharray in matplotlib's form."""
    return (0, [float(part) for part in pattern.split()]) if pattern else "-"


def panels(
    figure: Any,
    rows: int = 1,
    *,
    left: float = 0.66,
    right: float = 0.18,
    bottom: float = 0.48,
    top: float = 0.1,
    gap: float = 0.16,
) -> list[Any]:
    """Return panels below each other, with the margins and the gap between them in inches.

    The margins hold axis labels and tick labels. A layout that matplotlib measures draws each figure
    twice and takes three times as long.
    """
    width, height = figure.get_size_inches()
    each = (height - bottom - top - gap * (rows - 1)) / rows
    margins = {"left": left / width, "right": 1 - right / width}
    margins |= {"bottom": bottom / height, "top": 1 - top / height, "hspace": gap / each}
    return list(figure.subplots(rows, 1, sharex=True, squeeze=False, gridspec_kw=margins)[:, 0])


def line(
    panel: Any, x: Sequence[float], y: Sequence[float | None], stroke: tuple[str, str], width: float = 1.5
) -> None:
    """Draw a line of a color and dashes, with gaps where `y` is None."""
    values = [math.nan if v is None else v for v in y]
    panel.plot(x, values, color=stroke[0], linestyle=dashes(stroke[1]), linewidth=width)


def label(text: str, longest: int = _LONGEST) -> str:
    """Return a name as one line that fits; characters that XML or fonts cannot show become U+FFFD."""
    one_line = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return one_line if len(one_line) <= longest else f"{one_line[: longest - 1]}…"


def tidy(panel: Any) -> None:
    """Draw a light grid behind the data, and no frame."""
    panel.grid(visible=True, color=GRID, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=2.5)


def unit_square(panel: Any) -> None:
    """Show both axes from 0 to 1."""
    panel.set_xlim(-0.02, 1.02)
    panel.set_ylim(-0.02, 1.02)
    tidy(panel)
