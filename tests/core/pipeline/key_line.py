"""A line of the key table: a field of the config, another value for it, and the stages whose keys change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """`change` are overrides over `before`, which are overrides over the small project."""

    field: str
    change: tuple[str, ...]
    moves: frozenset[str]
    before: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class PathLine:
    """A field with a path. In a copy of what it names, `old` in `file` becomes `new`.

    `file` is "" where the path is that of the file itself.
    """

    field: str
    file: str
    old: str
    new: str
    moves: frozenset[str]
    before: tuple[str, ...] = ()
    why: str = ""


def line(
    field: str,
    value: str,
    moves: str,
    *more: str,
    before: tuple[str, ...] = (),
    why: str = "",
) -> Line:
    """`field=value` and `more` change the keys of the stages in `moves`."""
    return Line(field, (f"{field}={value}", *more), frozenset(moves.split()), before, why)


def path(field: str, file: str, old: str, new: str, moves: str, *before: str, why: str = "") -> PathLine:
    """Other contents at the path change the keys of the stages in `moves`."""
    return PathLine(field, file, old, new, frozenset(moves.split()), before, why)


def rule(name: str, limit: str = "", value: str = "") -> Line:
    """Another limit of a rejection rule; without a limit, the rule itself in the list."""
    other = "truncated" if name == "unparsed" else "unparsed"
    alone, listed, changed = (
        f"rejection.rules=[{other}{more}]"
        for more in ("", f", {{rule: {name}}}", f", {{rule: {name}, {limit}: {value}}}")
    )
    before, after = (listed, changed) if limit else (alone, listed)
    # repeats looks at what was accepted, and of val and test nothing is.
    moves = {"reject"} if name == "repeats" else {"reject", "hardness"}
    return Line(f"rejection.rules.{name}.{limit or 'rule'}", (after,), frozenset(moves), (before,))
