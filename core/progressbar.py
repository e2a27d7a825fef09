"""A bar on a terminal that moves in place; in a pipe or a file there is none."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

allowed = True
"""Whether bars may be shown at all: not where a machine reads what is on stderr."""


def on_terminal() -> bool:
    """Whether a bar would be seen."""
    return allowed and sys.stderr.isatty()


class Bar:
    """Counts, rate and remaining time of one stage; `update` as in core.progress.Progress."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar; at the end it stays as a line."""
        if not on_terminal() or (self._bar is None and done >= total):
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._what, total=total, initial=done, file=sys.stderr, dynamic_ncols=True, unit="row"
            )
        if self._bar.disable:  # closed: what follows the end is no progress
            return
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()


@contextlib.contextmanager
def beside() -> Iterator[None]:
    """Take the bars away while a line is written."""
    if not on_terminal() or "tqdm" not in sys.modules:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield
