"""Two runs at once that need the same stages, each with a name of its own."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import durable
from core.store import RunView, Store
from tests.killing.children import TO_THE_END, Child, Ended, Moment, ask_child
from tests.killing.direct import run

NAMES = ("first", "second")
SHORTER = ("export.splits=[test]", "export.reasoning_rows=0", "baselines.other_prompt=false")


def pairs(config: Path, root: str) -> dict[str, Any]:
    """What both runs of a pair did that is left alone, and of one whose first is killed while it trains."""
    moments = {"alone": TO_THE_END, "killed": Moment(durable.STATE_SAVED, 1)}
    return {name: _pair(config, f"{root}/{uuid.uuid4().hex[:8]}", first) for name, first in moments.items()}


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
