"""Two runs at once that need the same stages: python -m tests.killing.together --root URL

Both have names of their own. Prints one JSON object with what either did: of a pair that is left
alone, and of a pair whose first is killed while the second waits for it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import uuid
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

from core import durable
from core.store import RunView, Store
from tests.killing import driver
from tests.killing.children import TO_THE_END, Child, Ended, Moment, ask_child
from tests.killing.direct import run

NAMES = ("first", "second")
SHORTER = ("export.splits=[test]", "export.reasoning_rows=0", "baselines.other_prompt=false")


def main() -> None:
    """Run both pairs and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    root = parser.parse_args().root.rstrip("/")
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["UNDERSTUDY_CACHE"] = str(Path(folder) / "cache")
        driver.import_once()
        config = Path(ask_child(lambda: driver.project(Path(folder))))
        alone = _pair(config, f"{root}/{uuid.uuid4().hex[:8]}", TO_THE_END)
        killed = _pair(config, f"{root}/{uuid.uuid4().hex[:8]}", Moment(durable.STATE_SAVED, 1))
    print(json.dumps({"alone": alone, "killed": killed}))


def _pair(config: Path, root: str, first: Moment) -> dict[str, Any]:
    """Two runs at once, the first until its moment."""
    with tempfile.TemporaryDirectory() as traces:
        children = {
            name: Child.start(_work(config, root, name), Path(traces) / name, moment)
            for name, moment in zip(NAMES, (first, TO_THE_END), strict=True)
        }
        ended = {name: child.end() for name, child in children.items()}
    alive = [name for name in NAMES if not ended[name].killed]
    digests = ask_child(lambda: {name: _digests(root, name) for name in alive})
    return {name: {**_told(ended[name]), "digests": digests.get(name)} for name in NAMES}


def _work(config: Path, root: str, name: str) -> Callable[[], None]:
    return lambda: run(config, [f"run.root={root}", f"run.name={name}", *SHORTER])


def _told(ended: Ended) -> dict[str, object]:
    return {
        "killed": ended.killed,
        "code": ended.code,
        "steps": [int(p.about) for p in ended.passed if p.name == durable.STEP_SUBMITTED],
        "asked": sum(p.name == durable.TEACHER_ASKED for p in ended.passed),
        "made": [p.about for p in ended.passed if p.name == durable.MANIFEST_WRITTEN],
    }


def _digests(root: str, name: str) -> dict[str, str]:
    return {slot: e.digest or "" for slot, e in RunView(Store.at(root), name).stages().items()}


if __name__ == "__main__":
    main()
