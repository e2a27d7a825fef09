"""The runs under a root: how each stands, how much it holds, what it reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import MissingInputError, UserError
from core.store import leases, pointers
from core.store.backend import Found
from core.store.objects import Store
from core.store.runs import RunView, run_names
from core.summary.checking import Unusable, parse
from core.summary.measured import measured, place, stand_in


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run. `bytes` counts its folder and the objects it refers to, which other runs may share."""

    name: str
    state: str
    """running, finished, stopped, failed, died (it says running and nobody is at it), or predecessor: a
    run of the scripts before this project."""
    at: str | None
    """When that was."""
    bytes: int
    stages: int
    best_step: int | None
    metrics: Mapping[str, float | None]
    """The student's on test; empty before the export."""
    latest: bool
    """Whether model/latest.json names it."""
    error: str | None = None


_METRICS = ("macro_f1", "auroc", "log_loss")
PREDECESSOR = "predecessor"


def overview(store: Store) -> list[RunEntry]:
    """Every run under the root, by name."""
    there = store.backend.list("")
    objects = _object_sizes(there)
    latest = (pointers.read(store) or {}).get("run_dir")
    return [_entry(RunView(store, name), there, objects, latest) for name in run_names(store)]


def remove_run(store: Store, name: str, *, force: bool = False) -> list[str]:
    """Remove a run's folder and the pointers to it; its objects stay until they are collected.

    Returns what was removed. Raises MissingInputError where there is no such run, and UserError
    where it is at work or, without `force`, where model/latest.json names it or the predecessor left it.
    """
    view = RunView(store, name)
    if name not in run_names(store):
        there = ", ".join(run_names(store)) or "none"
        raise MissingInputError(f"there is no run {name} under {store.backend.url}; there are: {there}")
    if leases.is_live(store.backend, f"runs/{name}"):
        raise UserError(f"run {name} is at work; stop it first")
    if is_predecessors(view.files(), view.state()) and not force:
        raise UserError(
            f"run {name} is of the scripts before this project, and its teacher's answers are nowhere else; "
            "say --force to remove it"
        )
    found = {p: pointers.read(store, p) or {} for p in pointers.names(store)}
    naming = [p for p, content in found.items() if content.get("run_dir") == _dir(name)]
    if pointers.LATEST in naming and not force:
        raise UserError(
            f"model/latest.json names run {name}: whoever loads `latest` would find nothing; publish another "
            "run first, or say --force to remove that pointer too"
        )
    files = [f.path for f in store.backend.list(_dir(name))]
    removed = [f"{pointers.FOLDER}/{pointer}.json" for pointer in naming]
    store.backend.remove(removed)
    store.backend.remove(files)
    return [*removed, view.where()]


def is_predecessors(files: Iterable[str], noted: Mapping[str, Any]) -> bool:
    """Whether a run's folder was left by the scripts before this project, which noted no state."""
    left = ("teacher_phase/accepted_samples.jsonl", "resolved_config.json")
    return not noted and any(path.endswith(left) for path in files)


def _dir(name: str) -> str:
    return f"runs/{name}"


def _entry(
    view: RunView, there: list[Found], objects: Mapping[tuple[str, str], int], latest: Any
) -> RunEntry:
    noted, stages = view.state(), view.stages()
    state = noted.get("state", "unknown")
    if state == "running" and not leases.is_live(view.store.backend, f"runs/{view.name}"):
        state = "died"
    files = [f for f in there if f.path.startswith(f"{_dir(view.name)}/")]
    if is_predecessors([f.path for f in files], noted):
        state = PREDECESSOR
    held = {(slot.partition("/")[0], entry["key"]) for slot, entry in stages.items()}
    summary = view.store.read_json(f"{_dir(view.name)}/run_summary.json") or {}
    student = (
        _predecessors(view) if state == PREDECESSOR else (summary.get("test") or {}).get("student") or {}
    )
    return RunEntry(
        name=view.name,
        state=state,
        at=noted.get("at"),
        bytes=sum(f.bytes for f in files) + sum(objects.get(name, 0) for name in held),
        stages=len(stages),
        best_step=summary.get("best_step"),
        metrics={name: student[name] for name in _METRICS if name in student},
        latest=latest == _dir(view.name),
        error=noted.get("error"),
    )


def _predecessors(view: RunView) -> Mapping[str, float | None]:
    """Test metrics of a run of the predecessor; NaN, which it wrote, is undefined."""
    text = view.read(place("test", "reasoning")) or view.read(stand_in("test"))
    try:
        found = measured(view.name, "test", "reasoning", parse((text or "").encode())[0]).metrics
    except Unusable:
        return {}
    return {**found, "log_loss": found["loss"]}


def _object_sizes(there: list[Found]) -> dict[tuple[str, str], int]:
    sizes: dict[tuple[str, str], int] = {}
    for found in there:
        parts = found.path.split("/")
        if parts[0] == "objects" and len(parts) >= 3:
            name = parts[1], parts[2].removesuffix(".json")
            sizes[name] = sizes.get(name, 0) + found.bytes
    return sizes
