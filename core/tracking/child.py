"""A tracker's own process: `python -m core.tracking.child FOLDER` tells it what the run spools there.

A library that hangs, crashes or holds up the interpreter's end does so here, and the run knows nothing of
it. What became of it stands in status.json; what the library prints goes nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.tracking.keeping import Keeper, open_keeper

SPOOL, STATUS, LEFT = "records.jsonl", "status.json", "left"
"""`left` is put there by a run that waits no longer: then the folder is ours to remove."""
LONGEST_START, LONGEST_END = 60, 600
"""Seconds to begin a run at the tracker, and, after ours has ended, for what is still to be sent."""
_LOOK_EVERY = 0.2


def main(folder: Path) -> int:
    """Follow the spool to its end. Exit code 1 where the tracker failed."""
    lines = _lines(folder / SPOOL, os.getppid())
    first = next(lines)
    try:
        signal.alarm(LONGEST_START)  # ends the process even where a library hangs in C
        keeper = open_keeper(first["tracker"], first["settings"], first["run"])
        signal.alarm(0)
        _status(folder, state="ready")
        for line in lines:
            _take(keeper, line)
        _status(folder, state="ended")
    except BaseException as e:  # a library may raise anything, SystemExit too
        _status(folder, state="failed", error=_said(first["tracker"], e))
        return 1
    finally:
        signal.alarm(0)
        if (folder / LEFT).exists():
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _take(keeper: Keeper, line: dict[str, Any]) -> None:
    if "end" in line:
        signal.alarm(LONGEST_END)  # the library's own end may wait for a network that is not there
        keeper.end(line["end"])
    else:
        keeper.points(line["step"], line["values"])


def _lines(path: Path, parent: int) -> Iterator[dict[str, Any]]:
    """Whole lines as they come, to the one that ends them; one is made up where the run's process is gone."""
    with path.open(encoding="utf-8") as f:
        rest = ""
        while True:
            rest += f.readline()
            if rest.endswith("\n"):
                line: dict[str, Any] = json.loads(rest)
                yield line
                if "end" in line:
                    return
                rest = ""
            elif os.getppid() != parent:
                yield {"end": "stopped"}
                return
            else:
                time.sleep(_LOOK_EVERY)


def _status(folder: Path, **values: Any) -> None:
    beside = folder / f"{STATUS}.new"
    beside.write_text(json.dumps(values), encoding="utf-8")
    beside.replace(folder / STATUS)


def _said(tracker: str, error: BaseException) -> str:
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == tracker:
        return f"it is not installed: pip install 'understudy-distill[{tracker}]'"
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:500]


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    signal.alarm(LONGEST_END)  # a library may hold up the interpreter's end
    sys.exit(code)
