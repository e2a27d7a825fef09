"""A smoke run: the whole pipeline on a few rows of each split, and what the full run will take.

It has a name of its own and publishes nothing. It makes the same splits as the full run and keeps some rows
of each, so that the full run finds the teacher's answers that it paid for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

from core.completions import Journal
from core.config import Config, ResolvedConfig
from core.config.section import walk
from core.cost import Forecast
from core.data.splitting import apportion
from core.data.stage import FILE as SPLIT_SUMMARY
from core.data.stage import SplitSettings, SplitSummary, split
from core.errors import UserError
from core.evaluation.embeddings import embed
from core.evaluation.student_scores import evaluate, explain, export
from core.jsonio import Record
from core.pipeline.distillation import distill
from core.pipeline.plan_runners import PlanRunner, estimate
from core.pipeline.run_context import RunContext
from core.pipeline.runners import Switches
from core.progress import LogProgress
from core.records import SPLITS, SplitName
from core.results import CostEstimate
from core.stage import build
from core.store import Manifest, RunView, Store
from core.student.encode_stage import EncodeSummary, encode
from core.student.train_stage import total_steps, train
from core.teacher.stage import forecasts, sample

FILE = "projection.json"
_TRAIN, _VAL, _ = SPLITS
_STEPS = 4
"""Optimizer steps of a smoke run at most, in two segments: the second one does not load the model."""
_GENERATED = 4
"""Reasons that are generated for each split at most."""
_OF_EACH_SEED = (train.name, evaluate.name, export.name, explain.name)
_MINUTE = 60


def smoke_config(full: ResolvedConfig, rows: int) -> ResolvedConfig:
    """The config of the smoke run on `rows` rows of each split."""
    config, student = full.config, full.config.student
    steps = min(total_steps(student, rows), _STEPS)
    most = {f"max_{name}_examples": _limit(config, name, rows) for name in SPLITS}
    sections = {
        "run": config.run.model_copy(update={"name": f"{full.run_name}-smoke"}),
        "data": config.data.model_copy(update=most),
        "student": student.model_copy(update={"steps": steps, "epochs": None, "seeds": student.seeds[:1]}),
        "evaluation": config.evaluation.model_copy(update={"interval": math.ceil(steps / 2)}),
        "baselines": config.baselines.model_copy(update={"label_only_run": None}),
        "export": config.export.model_copy(
            update={
                "reasoning_rows": min(config.export.reasoning_rows, _GENERATED),
                "error_rows": min(config.export.error_rows, _GENERATED),
            }
        ),
        "publish": False,
    }
    small = config.model_copy(update=sections)
    before = {key: value for key, _, value in walk(config)}
    origins = {
        key: full.origins.get(key, "") if before.get(key) == value else "--smoke"
        for key, _, value in walk(small)
    }
    return ResolvedConfig(small, origins)


def full_split(full: ResolvedConfig, rows: int) -> Manifest:
    """Build the splits of the full run, which it reuses.

    Raises UserError if `rows` rows of train would be of one class.
    """
    store, context = Store.open(full.config.run.root), RunContext(full.config)
    parts = build(store, split.call(SplitSettings.of(full.config), context), LogProgress("split")).manifest
    counts = _summary(store, parts).used_split_summary[_TRAIN].label_counts
    fewest = min(counts.negative, counts.positive)
    if not all(apportion(min(rows, _limit(full.config, "train", rows)), [counts.negative, counts.positive])):
        needed = math.ceil((counts.negative + counts.positive) / (2 * fewest)) + 1
        raise UserError(
            f"--smoke {rows}: {fewest} of {counts.negative + counts.positive} rows of train have the rarer "
            f"label, so that {rows} rows would have none of it; give --smoke {needed} or more"
        )
    return parts


class TeacherCost(Record):
    """What a live teacher will take for what is not answered yet: mean, and bounds of about 95 %."""

    requests: float
    seconds: float
    usd: float | None = None
    """None without a price."""
    usd_low: float | None = None
    usd_high: float | None = None


class Projection(Record):
    """projection.json in the folder of a smoke run: what the full run will take."""

    run: str
    """The full run."""
    measured_by: str
    """The smoke run."""
    sizes: dict[SplitName, int]
    """Rows of each split of the full run."""
    steps: int | None
    """Optimizer steps; None if the smoke run trained none."""
    seconds: dict[str, float]
    """By stage, without those of the teacher's answers if it is a live one."""
    teacher: TeacherCost | None
    """None if the teacher is not a live one."""
    student: CostEstimate | None
    """The cost on a training server; None for an engine on this machine."""

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values()) + (self.teacher.seconds if self.teacher else 0.0)

    def lines(self) -> Iterator[str]:
        """The projection for people."""
        rows = ", ".join(f"{name} {n:,}" for name, n in self.sizes.items())
        steps = "" if self.steps is None else f", {self.steps:,} steps"
        yield f"Run {self.run} ({rows} rows{steps}) will take about {_duration(self.total_seconds)}:"
        asked = {} if self.teacher is None else {"the teacher's answers": self.teacher.seconds}
        seconds = {**self.seconds, **asked}
        longest = sorted(((n, stage) for stage, n in seconds.items() if n >= 1), reverse=True)[:5]
        yield "  " + ", ".join(f"{stage} {_duration(n)}" for n, stage in longest)
        if self.teacher is None and self.student is None:
            yield "  It costs no money: it asks no live teacher and no training server."
        if (cost := self.teacher) is not None:
            money = "an unknown sum, see teacher.prices"
            if cost.usd is not None:
                money = f"US$ {cost.usd:.2f} ({cost.usd_low:.2f} to {cost.usd_high:.2f})"
            yield f"  The teacher: about {cost.requests:,.0f} more requests for {money}."
        if self.student is not None:
            yield f"  {self.student.sentence}"


def projected(full: ResolvedConfig, parts: Manifest, smoke: str) -> Projection:
    """Project the full run from the smoke run, and write the projection into that run's folder.

    `parts` are the full run's splits.
    """
    plan = PlanRunner(full, Switches())
    view = RunView(Store.open(full.config.run.root), smoke)
    sizes = {name: counts.count for name, counts in _summary(plan.store, parts).used_split_summary.items()}
    measured = _Measured.of(view)
    teacher = _teacher_cost(plan, parts) if full.config.teacher.kind == "openai" else None
    student = None
    if plan.context.capabilities.metered:
        plan.walk(distill)
        student = estimate(distill, plan)
    steps = measured.full_steps(full.config, sizes[_TRAIN])
    seconds = measured.project(full.config, sizes, steps)
    if teacher is not None:
        seconds.pop(sample.name, None)
    seeds = max(1, len(full.config.student.seeds))
    seconds = {name: n * (seeds if name in _OF_EACH_SEED else 1) for name, n in seconds.items()}
    found = Projection(
        run=full.run_name,
        measured_by=smoke,
        sizes=sizes,
        steps=steps,
        seconds={name: round(value, 1) for name, value in seconds.items()},
        teacher=teacher,
        student=student,
    )
    view.write_json(FILE, found.to_json())
    return found


def _limit(config: Config, name: SplitName, rows: int) -> int:
    return min(rows, getattr(config.data, f"max_{name}_examples") or rows)


def _summary(store: Store, parts: Manifest) -> SplitSummary:
    return SplitSummary.read(store.file(parts, SPLIT_SUMMARY))


def _teacher_cost(plan: PlanRunner, parts: Manifest) -> TeacherCost:
    with Journal.open(plan.store, plan.view.name, completes_uploads=False) as journal:
        found: Forecast = reduce(
            add, (each for _, each, _ in forecasts(plan.config, plan.store, parts, journal))
        )
    money = (
        {}
        if found.usd is None
        else {"usd": found.usd.mean, "usd_low": found.usd.low, "usd_high": found.usd.high}
    )
    return TeacherCost(requests=found.calls.mean, seconds=found.seconds.mean, **money)


class _Counts(Record):
    """What is read of a stage's summary."""

    seconds: float = 0.0
    rows: int = 0
    reasonings: int = 0
    generated: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a stage in the smoke run."""

    slot: str
    manifest: Manifest
    counts: _Counts

    @property
    def stage(self) -> str:
        return self.manifest.stage


@dataclass(frozen=True, slots=True)
class _Measured:
    """The calls of the smoke run, the rows of its splits and its accepted samples."""

    calls: tuple[_Call, ...]
    sizes: Mapping[SplitName, int]
    samples: int

    @classmethod
    def of(cls, view: RunView) -> _Measured:
        calls = list[_Call]()
        sizes: dict[SplitName, int] = {}
        samples = 0
        for slot, record in view.stages().items():
            manifest = view.store.find(slot.partition("/")[0], record.key)
            if manifest is None:
                continue
            calls.append(_Call(slot, manifest, _Counts.from_json(manifest.summary, manifest.path)))
            if manifest.stage == split.name:
                found = _summary(view.store, manifest).used_split_summary
                sizes = {name: counts.count for name, counts in found.items()}
            if manifest.stage == encode.name:
                samples = EncodeSummary.from_json(manifest.summary, manifest.path).examples
        return cls(tuple(calls), sizes, samples)

    def full_steps(self, config: Config, rows: int) -> int | None:
        """The steps of the full run, if as many of the answers are accepted as in the smoke run."""
        if not self.samples:
            return None
        return total_steps(config.student, max(1, round(rows * self.samples / self.sizes[_TRAIN])))

    def project(self, config: Config, full: Mapping[SplitName, int], steps: int | None) -> dict[str, float]:
        """Seconds by stage: those of the smoke run, and each measured rate times the additional work."""
        found: dict[str, float] = defaultdict(float)
        per_row = self._seconds_per_row()
        for call in self.calls:
            found[call.stage] += call.counts.seconds
            if call.stage == export.name:
                found[call.stage] += _more_exported(call, full, per_row, config.export.reasoning_rows)
            elif call.stage == explain.name and call.counts.generated:
                more = max(0, config.export.error_rows - call.counts.generated)
                found[call.stage] += more * call.counts.seconds / call.counts.generated
            elif call.stage == embed.name:
                ratio = sum(full.values()) / sum(self.sizes.values())
                found[call.stage] += call.counts.seconds * (ratio - 1)
        if steps is not None and (speed := self._seconds_per_step()) is not None:
            evaluations = 1 + math.ceil(steps / config.evaluation.interval)
            rows = min(full[_VAL], config.evaluation.max_examples or full[_VAL])
            done = [call.counts.rows for call in self.calls if call.stage == evaluate.name]
            found[train.name] += max(0, steps - self._stops()[-1]) * speed
            found[evaluate.name] += max(0, evaluations * rows - sum(done)) * per_row
        return dict(found)

    def _stops(self) -> list[int]:
        return sorted(int(call.slot.partition("/")[2]) for call in self.calls if call.stage == train.name)

    def _seconds_per_step(self) -> float | None:
        """Those of the fastest segment: the first one loads the model."""
        stops = self._stops()
        lengths = {stop: stop - start for start, stop in zip([0, *stops], stops, strict=False)}
        trained = [call for call in self.calls if call.stage == train.name]
        return min(
            (call.counts.seconds / lengths[int(call.slot.partition("/")[2])] for call in trained),
            default=None,
        )

    def _seconds_per_row(self) -> float:
        """Those of the fastest evaluation."""
        done = [call.counts for call in self.calls if call.stage == evaluate.name and call.counts.rows]
        return min((counts.seconds / counts.rows for counts in done), default=0.0)


def _more_exported(call: _Call, full: Mapping[SplitName, int], per_row: float, reasons: int) -> float:
    """Additional seconds of scoring all rows of a split, and of generating `reasons` for the first ones."""
    counts, split_name = call.counts, call.slot.split("/")[2]
    rows = full[split_name]  # type: ignore[index]
    scored = 0.0 if "input.scored" in call.manifest.ingredients else counts.seconds
    if counts.reasonings:
        scored = min(scored, counts.rows * per_row)
    more = scored * (rows / counts.rows - 1) if counts.rows else 0.0
    if counts.reasonings:
        more += (counts.seconds - scored) * (min(reasons, rows) / counts.reasonings - 1)
    return more


def _duration(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 120 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _MINUTE / 60:.1f} h"
