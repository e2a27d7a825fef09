"""Two runs at once that need the same stages: python -m tests.killing.together --root URL [--kill]

Both have names of their own. With --kill the first is killed while the second waits for it. Prints
one JSON object with what either did.
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

from core import milestones
from core.store.objects import Store
from core.store.runs import RunView
from tests.killing import driver
from tests.killing.children import TO_THE_END, Child, Ended, Moment, ask_child
from tests.killing.direct import run

NAMES = ("first", "second")


def main() -> None:
    """Run both and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--kill", action="store_true")
    given = parser.parse_args()
    root = f"{given.root.rstrip('/')}/{uuid.uuid4().hex[:8]}"
    moment = Moment(milestones.STATE_SAVED, 1) if given.kill else TO_THE_END
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["UNDERSTUDY_CACHE"] = str(Path(folder) / "cache")
        config = Path(ask_child(lambda: driver.project(Path(folder))))
        driver.import_once()
        moments = dict(zip(NAMES, (moment, TO_THE_END), strict=True))
        children = {
            name: Child.start(_work(config, root, name), Path(folder) / name, moments[name]) for name in NAMES
        }
        ended = {name: child.end() for name, child in children.items()}
        alive = [name for name in NAMES if not ended[name].killed]
        digests = ask_child(lambda: {name: _digests(root, name) for name in alive})
    print(json.dumps({name: {**_told(ended[name]), "digests": digests.get(name)} for name in NAMES}))


def _work(config: Path, root: str, name: str) -> Callable[[], None]:
    return lambda: run(config, [f"run.root={root}", f"run.name={name}"])


def _told(ended: Ended) -> dict[str, object]:
    return {
        "killed": ended.killed,
        "code": ended.code,
        "steps": [int(p.about) for p in ended.passed if p.name == milestones.STEP_SUBMITTED],
        "asked": sum(p.name == milestones.TEACHER_ASKED for p in ended.passed),
        "made": [p.about for p in ended.passed if p.name == milestones.MANIFEST_WRITTEN],
    }


def _digests(root: str, name: str) -> dict[str, str]:
    return {slot: e["digest"] for slot, e in RunView(Store.at(root), name).stages().items()}


if __name__ == "__main__":
    main()
