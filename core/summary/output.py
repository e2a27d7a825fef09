"""A summary as the text of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from core import files
from core.errors import StoreError
from core.store.clock import now
from core.store.objects import Store
from core.summary import classic, tidy
from core.summary.collecting import Collected, collect
from core.summary.measured import MODES, Modes

Format = Literal["csv", "tidy", "html"]
FORMATS: tuple[Format, ...] = ("csv", "tidy", "html")


def summarise(
    store: Store, mode: Modes, format: Format, *, with_facts: bool = False
) -> tuple[Collected, str]:
    """Read the runs under a root in one mode, or in both, and put them into a file's text.

    `with_facts` reads what else runs say of themselves even where the format does not show it.
    Raises StoreError or PassingError where the root cannot be read.
    """
    wanted = [each for each in MODES if mode in (each, "both")]
    found = collect(store, wanted, with_facts=with_facts or format != "csv")
    return found, render(found, format, store.backend.url)


def render(found: Collected, format: Format, root: str) -> str:
    """The text in one of the formats."""
    if format == "csv":
        return classic.render(row.measured for row in found.rows)
    if format == "tidy":
        return tidy.render(found.rows)
    from core.summary import page

    return page.render(found.rows, root, now())


def default_name(format: Format) -> Path:
    """The file in the working directory that a summary goes to where nobody says otherwise."""
    return Path(f"summary.{'html' if format == 'html' else 'csv'}")


def save(text: str, path: Path) -> Path:
    """Write a file at once and return where. Raises StoreError."""
    try:
        files.replace_bytes(path, encoded(text))
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror or e}; name another place with --output") from e
    return path


def encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which names and JSON may hold, is written as its escape."""
    return text.encode("utf-8", "backslashreplace")
