"""The runs under a root, for `understudy ls` and `understudy rm`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.errors import MissingInputError, UserError
from core.jsonio import InvalidFile
from core.results import load_run_result
from core.store import leases, pointers
from core.store.backend import FoundFile
from core.store.objects import Store
from core.store.runs import FOLDER, RunView, run_names
from core.summary.files import PREDECESSOR_CONFIG, bestval_path, metrics_path, read_metrics

PREDECESSOR = "predecessor"


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run. `bytes` counts its folder and the objects it refers to, which other runs may share."""

    name: str
    state: str
    """running, finished, stopped, failed, died (recorded as running, but no process holds it), or
    predecessor: a run of the scripts before this project."""
    at: str | None
    """When the state was recorded."""
    bytes: int
    stages: int
    best_step: int | None
    metrics: Mapping[str, float | None]
    """The student's macro_f1, auroc and log_loss on test; empty before the export."""
    latest: bool
    """Whether model/latest.json names it."""
    error: str | None = None


def list_runs(store: Store) -> list[RunEntry]:
    """Every run under the root, by name."""
    found = store.backend.list("")
    sizes: Counter[tuple[str, str]] = Counter()
    for each in found:
        folder, stage, key, *_ = (*each.path.split("/"), "", "")
        if folder == "objects" and key:
            sizes[stage, key.removesuffix(".json")] += each.bytes
    latest = pointers.run_dir(store, pointers.LATEST)
    return [_entry(RunView(store, name), found, sizes, latest) for name in run_names(store)]


def remove_run(store: Store, name: str, *, force: bool = False) -> list[str]:
    """Remove a run's folder and the pointers to it; its objects stay until garbage collection.

    Returns what was removed. Raises MissingInputError if the run does not exist, and UserError if it is
    running or, without `force`, if model/latest.json names it or the predecessor made it.
    """
    view = RunView(store, name)
    if name not in run_names(store):
        raise missing_run(store, name)
    if leases.is_live(store.backend, f"{FOLDER}/{name}"):
        raise UserError(f"run {name} is running; stop it first")
    if is_of_predecessor(view.files(), recorded=view.state() is not None) and not force:
        raise UserError(
            f"run {name} was made by the scripts before this project, and its teacher's answers are not "
            "stored anywhere else; add --force to remove it"
        )
    run_dir = f"{FOLDER}/{name}"
    naming = [p for p in pointers.names(store) if pointers.run_dir(store, p) == run_dir]
    if pointers.LATEST in naming and not force:
        raise UserError(
            f"model/latest.json names run {name}, and without it `latest` cannot be loaded; publish another "
            "run first, or add --force to remove that pointer too"
        )
    files = [f.path for f in store.backend.list(run_dir)]
    removed = [f"{pointers.FOLDER}/{pointer}.json" for pointer in naming]
    store.backend.remove(removed)
    store.backend.remove(files)
    return [*removed, view.where()]


def missing_run(store: Store, name: str) -> MissingInputError:
    """Return the error for a run that does not exist."""
    names = ", ".join(run_names(store)) or "none"
    return MissingInputError(f"run {name} does not exist under {store.backend.url}; existing runs: {names}")


def is_of_predecessor(files: Iterable[str], *, recorded: bool) -> bool:
    """Whether the scripts before this project made a run's folder: they record no state."""
    made = ("teacher_phase/accepted_samples.jsonl", PREDECESSOR_CONFIG)
    return not recorded and any(path.endswith(made) for path in files)


def _entry(
    view: RunView, found: Sequence[FoundFile], sizes: Counter[tuple[str, str]], latest: str | None
) -> RunEntry:
    recorded, stages, result, metrics = view.state(), view.stages(), None, dict[str, float | None]()
    files = [f for f in found if f.path.startswith(f"{FOLDER}/{view.name}/")]
    state = "unknown" if recorded is None else recorded.state
    with contextlib.suppress(InvalidFile):
        result = load_run_result(view.store, view.name)
    if result is not None and (measured := result.student_on_test) is not None:
        metrics = {name: measured[name] for name in ("macro_f1", "auroc", "log_loss")}
    if state == "running" and not leases.is_live(view.store.backend, f"{FOLDER}/{view.name}"):
        state = "died"
    elif is_of_predecessor([f.path for f in files], recorded=recorded is not None):
        state, metrics = PREDECESSOR, {}
        data = view.read_bytes(metrics_path("test", "reasoning")) or view.read_bytes(bestval_path("test"))
        with contextlib.suppress(InvalidFile):
            test = read_metrics(data or b"", "test")[0].metrics
            metrics = {"macro_f1": test.macro_f1, "auroc": test.auroc, "log_loss": test.loss}
    objects = {(slot.partition("/")[0], entry.key) for slot, entry in stages.items()}
    return RunEntry(
        name=view.name,
        state=state,
        at=None if recorded is None else recorded.at,
        bytes=sum(f.bytes for f in files) + sum(sizes[name] for name in objects),
        stages=len(stages),
        best_step=None if result is None else result.best_step,
        metrics=metrics,
        latest=latest == f"{FOLDER}/{view.name}",
        error=None if recorded is None else recorded.error,
    )
