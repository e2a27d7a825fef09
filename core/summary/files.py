"""The files of a run that a summary reads, as typed records: metrics, result, config, provenance.

Runs of 0.1 and of the scripts before this project are read too. An invalid file is reported
and costs only its own cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from core.export.manifests import metrics_name
from core.jsonio import InvalidFile, Record, message, parse
from core.provenance import FILE as MADE_BY
from core.provenance import MadeBy
from core.records import SplitName
from core.results import RunResult, StudentSetup
from core.store.runs import CONFIG, SUMMARY

Mode = Literal["reasoning", "label_only"]
Modes = Literal["reasoning", "label_only", "both"]
MODES: tuple[Mode, ...] = ("reasoning", "label_only")
Count = Annotated[int, Field(strict=False, ge=0)]
_NOT_METRICS = ("decision_threshold", "n", "undefined")
PREDECESSOR_CONFIG = "resolved_config.json"
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


def _from_result(facts: RunFacts, data: bytes) -> RunFacts:
    result, _ = parse(RunResult, data)
    student, teacher, code = result.student or StudentSetup(), result.teacher_summary, result.made_by
    asked, trained = result.ledger.teacher, result.ledger.student
    tokens = None if asked is None else asked.prompt_tokens_of_the_run + asked.completion_tokens_of_the_run
    return replace(
        facts,
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


def _from_config(facts: RunFacts, data: bytes) -> RunFacts:
    """The student's settings of a run of 0.1, whose result does not have them."""
    if facts.engine is not None:
        return facts
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


def _from_made_by(facts: RunFacts, data: bytes) -> RunFacts:
    """The code of a run of 0.1, or of one whose result is not written yet."""
    if facts.version is not None:
        return facts
    made_by, _ = parse(MadeBy, data)
    return replace(facts, version=made_by.version, commit=made_by.commit)


def _from_predecessor(facts: RunFacts, data: bytes) -> RunFacts:
    """Leave out the base model: the file has the settings from before the student's flags."""
    model = parse(_PredecessorConfig, data)[0].teacher_model
    return replace(facts, engine="tinker", target="reason_first", teacher_kind="openai", teacher_model=model)


READERS: Mapping[str, Callable[[RunFacts, bytes], RunFacts]] = {
    SUMMARY: _from_result,
    CONFIG: _from_config,
    MADE_BY: _from_made_by,
    PREDECESSOR_CONFIG: _from_predecessor,
}
"""By path in a run's folder, how facts are added from the file; the order matters."""
