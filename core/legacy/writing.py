"""The imported config as YAML: a comment beside each value, and above all of it what was not taken over."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from core.config import Config
from core.config.loading import leaves
from core.config.writing import written
from core.legacy.importing import Imported, Remark, What, nested

TITLES: Mapping[What, str] = {
    "left out": "Without a counterpart here",
    "otherwise": "Taken over, and a little different here",
    "unknown": "Not known",
    "missing": "Not found from here",
}
_VERSIONS = {"old": "its first version", "new": "its later version"}


def render(found: Imported) -> str:
    """YAML text that loads as it stands."""
    lines = [
        f"# Made from {found.flat.path} by `understudy import-config`. A comment names the key that a value",
        f'# comes from; "by default" is what {_VERSIONS[found.version]} did where the file has no such key.',
    ]
    for title, remarks in grouped(found).items():
        lines += ["#", f"# {title}:"]
        for remark in remarks:
            lines += textwrap.wrap(said(remark), 108, initial_indent="#   ", subsequent_indent="#     ")
    lines.append("")
    order = [".".join(path) for path in leaves(Config)]
    ordered = dict(sorted(found.values.items(), key=lambda item: order.index(item[0])))
    _section(nested(ordered), (), found.origins, lines)
    return "\n".join(lines) + "\n"


def grouped(found: Imported) -> dict[str, list[Remark]]:
    """The list by title; titles without a line are left out."""
    by_title = {title: [r for r in found.remarks if r.what == what] for what, title in TITLES.items()}
    return {title: remarks for title, remarks in by_title.items() if remarks}


def said(remark: Remark) -> str:
    """One line of the list."""
    return f"{remark.place}: {remark.key}: {remark.said}"


def _section(values: Any, at: tuple[str, ...], origins: Mapping[str, str], lines: list[str]) -> None:
    indent = "  " * len(at)
    for name, value in values.items():
        dotted = ".".join((*at, name))
        if dotted in origins:
            lines.append(f"{indent}{name}: {written(value)}  # {origins[dotted]}")
        else:
            lines += ["", f"{name}:"] if not at else [f"{indent}{name}:"]
            _section(value, (*at, name), origins, lines)
