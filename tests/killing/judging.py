"""What a run left behind, as far as two equal runs must agree on it; and what a resumed run did twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core import durable
from core.store import RunView, Store, pointers
from tests.killing.children import Passed

TIMES = (
    "created_at",
    "generated_at",
    "saved_at",
    "at",
    "seconds",
    "timings",
    "writer",
    "reused",
    "history",
    "copied_at",
)
"""What two equal runs differ in: times, who wrote, and whether it was new."""
_NOT_COMPARED = (
    "resolved_config.yaml",
    "made_by.json",
    "train.log",
    "test_report.md",
    "run_state.json",
    "report.html",
)
"""The root's name, the commit, log lines and times; the report's numbers are those of the JSON files."""


@dataclass(frozen=True, slots=True)
class Twice:
    """What was done again although it was safe."""

    answers: int
    """Texts put to the teacher again after the sample stage's manifest was written."""
    steps: int
    """Optimiser steps again that lie before the last saved segment, or twice in one process."""


def saved(root: str) -> dict[str, Any]:
    """What is safe under a root now: whether the answers are, and the last saved step."""
    store = Store.at(root)
    steps = [0]
    for found in store.backend.list("objects/train"):
        if found.path.count("/") == 2:
            manifest = store.find("train", found.path.split("/")[2].removesuffix(".json"))
            steps.append(int(manifest.summary["step"]) if manifest else 0)
    answers = [f for f in store.backend.list("objects/sample") if f.path.count("/") == 2]
    return {"step": max(steps), "answers": bool(answers)}


def done_twice(before: dict[str, Any], passed: Sequence[Passed]) -> Twice:
    """Compare what was safe when a run was killed with what its successor did."""
    steps = [int(p.about) for p in passed if p.name == durable.STEP_SUBMITTED]
    asked = [p for p in passed if p.name == durable.TEACHER_ASKED]
    again = sum(step < before["step"] for step in steps) + len(steps) - len(set(steps))
    return Twice(len(asked) if before["answers"] else 0, again)


def remains(root: str, run: str) -> dict[str, str]:
    """Digests of all that a finished run left: its files, its objects' contents, its pointers.

    Raises AssertionError where a pointer names what is not there, a lease is held, or an object that
    the run refers to is not sound.
    """
    store = Store.at(root)
    view = RunView(store, run)
    pointers.collect(store, pointers.find_garbage(store, grace=-1))
    assert store.backend.list("leases") == [], "what a killed run held is still held"
    found: dict[str, str] = {}
    for slot, entry in view.stages().items():
        manifest = store.sound(slot.partition("/")[0], entry.key)
        assert manifest is not None, f"{slot} is damaged"
        found[f"object {slot}"] = manifest.digest
    for file in store.backend.list(f"runs/{run}"):
        name = file.path.removeprefix(f"runs/{run}/")
        if name not in _NOT_COMPARED:
            data = store.backend.read(file.path)
            assert data is not None
            found[name] = _digest(name, data.data)
    for name in pointers.names(store):
        content = dict(pointers.read(store, name) or {})
        named = [v for v in content.values() if isinstance(v, str)]
        for path in (v for v in named if v.startswith(("objects/", "runs/"))):
            assert store.backend.list(path) or store.backend.read(path), f"{name} names {path}"
        assert len(content["history"]) >= 1
        found[f"pointer {name}"] = _digest(".json", json.dumps(content).encode())
    return found


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of what is not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _digest(name: str, data: bytes) -> str:
    if name.endswith(".jsonl"):
        data = json.dumps([_timeless(json.loads(line)) for line in data.splitlines()]).encode()
    elif name.endswith(".json"):
        data = json.dumps(_timeless(json.loads(data))).encode()
    return hashlib.sha256(data).hexdigest()


def _timeless(value: Any) -> Any:
    """Without times, and with the writer's part of objects' paths left out."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    if isinstance(value, list):
        return [_timeless(v) for v in value]
    if isinstance(value, str) and value.startswith("objects/"):
        parts = value.split("/")
        return "/".join([*parts[:3], *parts[4:]])
    return value
