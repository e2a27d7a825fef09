"""The runs under a root: their list for `understudy ls`, their removal, and their files as typed records.

Runs of 0.1 and of the scripts before this project are read too. An invalid file is reported and costs only
its own cells.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from core.errors import MissingInputError, UserError
from core.export.run_files import metrics_name
from core.jsonio import InvalidFile, Record, message, parse
from core.records import SplitName
from core.results import RunResult, StudentSetup, load_run_result
from core.store import FoundFile, RunView, Store, leases, pointers, run_names
from core.store.run_view import CONFIG, FOLDER, MADE_BY, SUMMARY, MadeBy

Mode = Literal["reasoning", "label_only"]
Modes = Literal["reasoning", "label_only", "both"]
MODES: tuple[Mode, ...] = ("reasoning", "label_only")
Count = Annotated[int, Field(strict=False, ge=0)]
_NOT_METRICS = ("decision_threshold", "n", "undefined")
PREDECESSOR_CONFIG = "resolved_config.json"
PREDECESSOR = "predecessor"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader is ten times as fast, where PyYAML was built with it."""
_STUDENT_SECTION = re.compile(rb"^student:.*(?:\n(?:[ #].*)?)*", re.MULTILINE)
_STUDENT_KEYS = re.compile(rb"^(?:student:.*|  engine:.*(?:\n {4}.*)*|  (?:model|target):.*)$", re.MULTILINE)
"""Only these keys are parsed, since YAML is slow; resolved configs have one key per line."""


class MetricValues(Record):
    """Metrics by the names of the files; those without a default are written by the predecessor too.

    The order is that of the predecessor's tables. None is undefined, or not written.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    loss: float | None
    cls_loss: float | None
    accuracy: float | None
    macro_f1: float | None
    auroc: float | None
    auprc: float | None
    invalid_label_rate: float | None
    balanced_accuracy: float | None
    F1: float | None
    mcc: float | None
    precision: float | None
    recall: float | None
    tp: Count | None
    fp: Count | None
    fn: Count | None
    tn: Count | None
    log_loss: float | None = None
    brier: float | None = None
    outside_mass: float | None = None
    n_positive: Count | None = None

    @property
    def registered(self) -> dict[str, float | None]:
        """Metrics that are not built in: registered when the run was measured."""
        found = {name: value for name, value in (self.model_extra or {}).items() if name not in _NOT_METRICS}
        return {name: value for name, value in found.items() if value is None or type(value) in (int, float)}


class RecordedInterval(Record):
    """Both ends of a confidence interval; None is undefined."""

    model_config = ConfigDict(strict=True)

    low: float | None = None
    high: float | None = None


class MetricsFile(Record):
    """`metrics_{split}.json` or `metrics_{split}_label_only.json`; numbers have to be numbers."""

    model_config = ConfigDict(strict=True)

    created_at: str | None
    checkpoint_path: str | None
    split: str | None = None
    decision_threshold: float | None
    n: Count | None
    metrics: MetricValues
    dataset_fingerprint: str | None = None
    config_fingerprint: str | None = None
    intervals: dict[str, RecordedInterval | None] | None = None

    def interval(self, metric: str) -> RecordedInterval:
        """The metric's interval; empty if the file has none."""
        name = "f1" if metric == "F1" else metric
        return (self.intervals or {}).get(name) or RecordedInterval()


def metrics_path(split: SplitName, mode: Mode) -> str:
    """The path of a metrics file in a run's folder."""
    return f"student_phase/{metrics_name(split, label_only=mode == 'label_only')}"


def bestval_path(split: SplitName) -> str:
    """Where later versions of the predecessor wrote the best checkpoint's metrics at the end of training."""
    return f"student_phase/metrics_{split}_bestval.json"


def read_metrics(data: bytes, split: SplitName) -> tuple[MetricsFile, bool]:
    """Read a metrics file; also return whether it has NaN. Raises InvalidFile."""
    found, has_nan = parse(MetricsFile, data)
    if found.split not in (None, split, f"{split}_bestval"):
        raise InvalidFile(f"split: expected {split}, found {found.split!r}")
    return found, has_nan


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Columns of a summary that describe the run. None is not written, or not readable."""

    engine: str | None = None
    base_model: str | None = None
    target: str | None = None
    teacher_kind: str | None = None
    teacher_model: str | None = None
    best_step: int | None = None
    usd: float | None = None
    teacher_tokens: int | None = None
    trained_tokens: int | None = None
    prefilled_tokens: int | None = None
    sampled_tokens: int | None = None
    seconds: float | None = None
    version: str | None = None
    commit: str | None = None

    @staticmethod
    def of(result: RunResult) -> RunFacts:
        student, teacher, code = result.student or StudentSetup(), result.teacher_summary, result.made_by
        asked, trained = result.ledger.teacher, result.ledger.student
        tokens = None
        if asked is not None:
            tokens = asked.prompt_tokens_of_the_run + asked.completion_tokens_of_the_run
        return RunFacts(
            engine=student.engine,
            base_model=student.base_model,
            target=student.target,
            teacher_kind=None if teacher is None else teacher.teacher_kind,
            teacher_model=None if teacher is None else teacher.teacher_model,
            best_step=result.best_step,
            usd=result.ledger.usd,
            teacher_tokens=tokens,
            trained_tokens=None if trained is None else trained.trained_tokens,
            prefilled_tokens=None if trained is None else trained.prefilled_tokens,
            sampled_tokens=None if trained is None else trained.sampled_tokens,
            seconds=result.ledger.total_seconds or None,
            version=None if code is None else code.version,
            commit=None if code is None else code.commit,
        )


class _Engine(Record):
    kind: str


class _StudentSection(Record):
    """`student:` of a resolved config."""

    engine: str | _Engine | None = None
    model: str | None = None
    target: str | None = None


class _Config(Record):
    student: _StudentSection


class _PredecessorConfig(Record):
    teacher_model: str | None = None


FACT_FILES = (SUMMARY, CONFIG, MADE_BY, PREDECESSOR_CONFIG)
"""The files of a run that describe it, in the order in which `add_facts` reads them."""


def add_facts(facts: RunFacts, path: str, data: bytes) -> RunFacts:
    """Add the facts in one of FACT_FILES. Raises InvalidFile.

    Results of 0.1 have neither the student's settings nor the code's version, and an unfinished run has no
    result. The predecessor's config has the base model from before the student's flags, so it is left out.
    """
    if path == SUMMARY:
        return RunFacts.of(parse(RunResult, data)[0])
    if path == CONFIG and facts.engine is None:
        return _from_config(facts, data)
    if path == MADE_BY and facts.version is None:
        made_by, _ = parse(MadeBy, data)
        return replace(facts, version=made_by.version, commit=made_by.commit)
    if path == PREDECESSOR_CONFIG:
        found, _ = parse(_PredecessorConfig, data)
        facts = replace(facts, engine="tinker", target="reason_first", teacher_kind="openai")
        return replace(facts, teacher_model=found.teacher_model)
    return facts


def _from_config(facts: RunFacts, data: bytes) -> RunFacts:
    section = _STUDENT_SECTION.search(data)
    if section is None:
        raise InvalidFile("the section student is missing")
    try:
        value = yaml.load(b"\n".join(_STUDENT_KEYS.findall(section[0])), Loader=_Loader)  # nosec B506  # a SafeLoader
        student = _Config.model_validate(value).student
    except ValidationError as e:
        raise InvalidFile(message(e)) from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise InvalidFile(f"not YAML ({' '.join(str(e).split())[:120]})") from e
    engine = student.engine.kind if isinstance(student.engine, _Engine) else student.engine
    return replace(facts, engine=engine, base_model=student.model, target=student.target)


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
