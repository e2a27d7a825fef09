"""A picture as SVG that can stand in a page: no styles of its own, no names that another could have.

A page that lets no foreign style in drops every style attribute, and matplotlib writes its colours and
fonts into those. They become attributes of SVG itself, with a class for each colour, by which the page
may change it.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree  # nosec B405  # what matplotlib has just written

from core.report.blocks import Picture
from core.report.plots import style

_REFERS = re.compile(r"#([\w.-]+)")
_UNSEEN = ("metadata", "style")
_LONGEST = 600
"""Characters of what is read aloud of a picture."""


def draw(picture: Picture) -> str:
    """The picture's `<svg>` element. Equal pictures give equal text."""
    return _for_page(picture, ElementTree.fromstring(_painted(picture)))  # nosec B314


def _painted(picture: Picture) -> bytes:
    from matplotlib.figure import Figure

    out = io.BytesIO()
    # The salt makes names that do not change from one drawing to the next. Glyphs are the page's to find.
    with warnings.catch_warnings(), style.painting({"svg.hashsalt": picture.name}):
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=picture.size, layout="constrained")
        picture.paint(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _for_page(picture: Picture, root: ElementTree.Element) -> str:
    _without(root, _UNSEEN)
    names = _names(root, picture.name)
    for element in root.iter():
        _plain(element, names)
    box = root.get("viewBox", "")
    root.attrib = {
        "viewBox": box,
        "role": "img",
        "aria-label": style.label(f"{picture.title}. {picture.description}", _LONGEST),
        "class": "plot",
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _without(root: ElementTree.Element, tags: tuple[str, ...]) -> None:
    for parent in list(root.iter()):
        for child in [c for c in parent if _local(c.tag) in tags]:
            parent.remove(child)


def _names(root: ElementTree.Element, prefix: str) -> dict[str, str]:
    """New names of the parts that are referred to; the others need none."""
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
                out["id"] = names[value]
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
    """A style attribute as attributes; the font's family is left to the page."""
    pairs = [part.split(":", 1) for part in written.split(";") if ":" in part]
    given = {name.strip(): value.strip() for name, value in pairs}
    given.pop("font-family", None)
    classes = [
        f"{letter}-{style.NAMES[colour]}"
        for letter, key in (("f", "fill"), ("s", "stroke"))
        if (colour := given.get(key, "")) in style.NAMES
    ]
    return {**given, **({"class": " ".join(classes)} if classes else {})}


def _local(name: Any) -> str:
    return str(name).rpartition("}")[2]
