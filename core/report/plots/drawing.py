"""How pictures look, and how they become SVG that fits into a page.

Few colors, distinguishable for color-blind readers, and light axes. A page that allows no foreign styles
drops every style attribute, and matplotlib writes its colors and fonts into those. They become attributes of
SVG itself, with a class for each color, by which the page may change it.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree  # nosec B405  # what matplotlib has just written

from core.report.document import Picture

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
"""The page's name of each color, so that it can have another value in dark mode. The five colors are those of
Okabe & Ito (2008)."""

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

_LONGEST = 46
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_REFERS = re.compile(r"#([\w.-]+)")
_DROPPED = ("metadata", "style")
_LONGEST_LABEL = 600
"""Characters of a picture's label for screen readers."""


def draw(picture: Picture) -> str:
    """Return the picture as an `<svg>` element. Equal pictures give equal text."""
    return _for_page(picture, ElementTree.fromstring(_painted(picture)))  # nosec B314


def _painted(picture: Picture) -> bytes:
    from matplotlib.figure import Figure

    out = io.BytesIO()
    # The salt makes names that do not change from one drawing to the next. Fonts are chosen by the page.
    with warnings.catch_warnings(), painting({"svg.hashsalt": picture.name}):
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=picture.size, layout="constrained")
        picture.paint(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _for_page(picture: Picture, root: ElementTree.Element) -> str:
    _without(root, _DROPPED)
    names = _names(root, picture.name)
    for element in root.iter():
        _plain(element, names)
    box = {name: value for name, value in root.attrib.items() if name == "viewBox"}
    root.attrib = {
        **box,
        "role": "img",
        "aria-label": label(f"{picture.title}. {picture.description}", _LONGEST_LABEL),
        "class": "plot",
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _without(root: ElementTree.Element, tags: tuple[str, ...]) -> None:
    for parent in list(root.iter()):
        for child in [c for c in parent if _local(c.tag) in tags]:
            parent.remove(child)


def _names(root: ElementTree.Element, prefix: str) -> dict[str, str]:
    """New names of the parts that others refer to; the rest need none."""
    used = {
        name
        for element in root.iter()
        for key, value in element.attrib.items()
        if _local(key) in ("href", "clip-path")
        for name in _REFERS.findall(value)
    }
    return {name: f"{prefix}-{i}" for i, name in enumerate(sorted(used))}


def _plain(element: ElementTree.Element, names: dict[str, str]) -> None:
    element.tag = _local(element.tag)
    out: dict[str, str] = {}
    for key, value in element.attrib.items():
        name = _local(key)
        if name == "id":
            if value in names:
                out |= {"id": names[value]}
        elif name == "style":
            out |= _attributes(value)
        elif name in ("href", "clip-path"):
            out[name] = _REFERS.sub(lambda m: f"#{names[m[1]]}", value)
        elif name == "d":
            out[name] = " ".join(value.split())
        else:
            out[name] = value
    element.attrib = out
    if element.tag != "text":
        element.text = element.text if (element.text or "").strip() else None
    element.tail = None


def _attributes(written: str) -> dict[str, str]:
    """A style attribute as SVG attributes, without the font family, which the page chooses."""
    pairs = [part.split(":", 1) for part in written.split(";") if ":" in part]
    given = {name.strip(): value.strip() for name, value in pairs if name.strip() != "font-family"}
    classes = [
        f"{letter}-{NAMES[color]}"
        for letter, key in (("f", "fill"), ("s", "stroke"))
        if (color := given.get(key, "")) in NAMES
    ]
    return {**given, **({"class": " ".join(classes)} if classes else {})}


def _local(name: Any) -> str:
    return str(name).rpartition("}")[2]


def painting(more: Mapping[str, str]) -> AbstractContextManager[None]:
    """Apply these settings to figures that are painted inside the context."""
    import matplotlib

    settings: Any = {**_SETTINGS, **more}
    return matplotlib.rc_context(settings)


def dashes(pattern: str) -> Any:
    """Return a stroke-dasharray in matplotlib's form."""
    return (0, [float(part) for part in pattern.split()]) if pattern else "-"


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
