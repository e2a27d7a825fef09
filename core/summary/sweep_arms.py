"""A sweep: its file, its arms as runs, checked before any of them begins, and their comparison."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from core.config import METRICS, Config, ConfigSection, ResolvedConfig
from core.config.loading import leaves, load, read_source
from core.errors import ConfigError, DataError, MissingInputError, StoreError
from core.evaluation.analysis import Analysis, Scored, measure_scorers
from core.evaluation.decision import DECISION, Decision
from core.evaluation.metrics import lower_is_better
from core.evaluation.predictions import SCORES, Predictions
from core.jsonio import FieldError
from core.records import SplitName, read_examples
from core.results import RunResult, load_run_result
from core.store import Manifest, RunView, Store
from core.store.run_view import FOLDER, split_digest

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_OF_THE_SWEEP = ("run", "run.name", "run.root")
_EXAMPLE = "see configs/sweep.yaml for an example"
_LONGEST_NAME = 200
"""Characters of a run's name: file systems allow 255, and the names of temporary files are longer."""
FALLBACK = "macro_f1"
"""The metric of recommendation if the sweep's own has no intervals."""


class SweepFile(ConfigSection):
    """What a sweep consists of: every arm with every point of the grid."""

    base: str
    """The config that all arms begin from."""
    name: str | None = Field(None, pattern=_NAME)
    """The sweep's folder; by default the file's name without its ending."""
    arms: dict[str, tuple[str, ...]] = {}
    """Named lists of overrides, each as in --set: student.epochs=2. An empty list is the base itself."""
    grid: dict[str, list[Any]] = {}
    """Dotted keys and the values they take; several are crossed."""

    @model_validator(mode="after")
    def _something_to_compare(self) -> SweepFile:
        for name in self.arms:
            if not re.fullmatch(_NAME, name):
                raise ValueError(
                    f"arms.{name}: a name has letters, digits, dots, dashes and underscores only"
                )
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid.{key} has no values; name some, or remove it")
        overridden = [text.partition("=")[0] for sets in self.arms.values() for text in sets]
        for key in map(str.strip, (*self.grid, *overridden)):
            if key in _OF_THE_SWEEP:
                raise ValueError(f"{key} is set by the sweep: arms share a root, and are <run>-<arm>")
        if sum(1 for _ in self.points()) < 2:
            raise ValueError("arms and grid make fewer than two arms: there is nothing to compare")
        return self

    def points(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The arms' names and overrides, in the file's order, the grid's last key changing fastest."""
        last = [key.rpartition(".")[2] for key in self.grid]
        short = [name if last.count(name) == 1 else key for key, name in zip(self.grid, last, strict=True)]
        for arm, sets in (self.arms or {"": ()}).items():
            for values in itertools.product(*self.grid.values()):
                texts = [json.dumps(value, ensure_ascii=False) for value in values]
                plain = [v if isinstance(v, str) else text for v, text in zip(values, texts, strict=True)]
                slugs = [re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-") or "none" for text in plain]
                named = [f"{key}-{slug}" for key, slug in zip(short, slugs, strict=True)]
                crossed = [f"{key}={text}" for key, text in zip(self.grid, texts, strict=True)]
                yield "-".join([*([arm] if arm else []), *named]), (*sets, *crossed)


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of a sweep; `sets` are what its config changes of the base."""

    name: str
    sets: tuple[str, ...]
    resolved: ResolvedConfig

    @property
    def run(self) -> str:
        """The run's name."""
        return self.resolved.run_name

    @property
    def is_control(self) -> bool:
        """Whether it is only there to be compared with: its rationales are those of other texts."""
        return self.resolved.config.student.rationales == "shuffled"


@dataclass(frozen=True, slots=True)
class Sweep:
    """All arms in their order; the others are compared with the first."""

    name: str
    base: str
    root: str
    overrides: tuple[str, ...]
    """What was changed of the base for all arms."""
    arms: tuple[Arm, ...]

    @property
    def metric(self) -> str:
        """The metric of the recommendation: the first arm's metric of selection."""
        return self.arms[0].resolved.config.evaluation.metric


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file and the config of each arm; `overrides` change the base.

    Nothing of an arm is published unless it or `overrides` set publish=true: the last one would otherwise
    be the latest. Raises ConfigError naming the arm.
    """
    file = read_sweep_file(path)
    base = load(Path(file.base), overrides)
    arms: dict[str, Arm] = {}
    for name, sets in file.points():
        if name in arms:
            one, other = (" ".join(each) or "as the base" for each in (arms[name].sets, sets))
            raise ConfigError(f"two arms are called {name} ({one}; {other}); give one of them a name in arms")
        run = f"{base.run_name}-{name}"
        if len(run) > _LONGEST_NAME:
            raise ConfigError(
                f"arm {name[:40]}...: the name of its run has {len(run)} characters, and {_LONGEST_NAME} are "
                "allowed; name the arm in arms, with the value as an override"
            )
        given = ["publish=false", *overrides, *sets, f"run.name={json.dumps(run)}"]
        try:
            arms[name] = Arm(name, sets, load(Path(file.base), given))
        except ConfigError as e:
            raise ConfigError("\n".join(f"arm {name}: {line}" for line in str(e).splitlines())) from e
    root = base.config.run.root
    return Sweep(file.name or path.stem, file.base, root, tuple(overrides), tuple(arms.values()))


def read_sweep_file(path: Path) -> SweepFile:
    """Read and check a sweep file. Raises ConfigError with file and line."""
    source = read_source(path)
    try:
        return SweepFile.model_validate_json(json.dumps(source.values, default=str), strict=True)
    except ValidationError as e:
        mistake = FieldError.of(e)
    name = ".".join(mistake.path)
    if mistake.type == "extra_forbidden":
        known = ", ".join(SweepFile.model_fields)
        is_config = mistake.path[0] in {path[0] for path in leaves(Config)}
        where = "; what changes from arm to arm belongs into arms or grid" if is_config else ""
        text = f"{name} is not a key of a sweep; there are: {known}{where}"
    elif mistake.type == "missing":
        text = f"{name} is missing; {_EXAMPLE}"
    else:
        text = f"{name + ': ' if name else ''}{mistake.text.removeprefix('Input ')}; {_EXAMPLE}"
    raise ConfigError(f"{source.place(mistake.path)}: {text}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How an arm's run ended; `error`, None if it finished, is also why an arm cannot be compared."""

    arm: Arm
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FinishedArm:
    """A finished arm: its result, its split, and of the first mode it exported the rows and the decision."""

    arm: Arm
    result: RunResult
    split: Manifest
    rows: Mapping[SplitName, Manifest]
    decision: Manifest
    made: int
    """Stages that were made for this arm; the others were reused."""
    stages: int

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def data(self) -> tuple[str, str]:
        """Digests of val and test."""
        return split_digest(self.split, "val"), split_digest(self.split)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The arms of a sweep that finished and share their rows, the others with the reason, and the comparison.

    `val` has the recommended arm first, `test` the arms in the sweep's order.
    """

    sweep: Sweep
    finished: Sequence[FinishedArm]
    left_out: Sequence[Ended]
    metric: str
    recommended: FinishedArm | None = None
    """None if no arm has a value on val."""
    val: Analysis | None = None
    """None if no arm finished."""
    test: Analysis | None = None
    """None if an arm has no rows of it."""


def compare_arms(store: Store, sweep: Sweep, ended: Sequence[Ended]) -> SweepResult:
    """Compare the arms that finished. Controls are compared, and never recommended."""
    arms, left_out = list[FinishedArm](), list[Ended]()
    metric = sweep.metric if sweep.metric in METRICS else FALLBACK
    for each in ended:
        if each.error is not None:
            left_out.append(each)
            continue
        try:
            arm = _read(store, each.arm)
            if arms and arm.data != arms[0].data:
                raise DataError(f"its val or test differs from that of {arms[0].name}, so they share no rows")
            arms.append(arm)
        except (MissingInputError, StoreError, DataError) as e:
            left_out.append(Ended(each.arm, str(e)))
    if not arms:
        return SweepResult(sweep, arms, left_out, metric)
    val, best = _analyze(store, arms, "val"), None
    values = [(val.scorers[arm.name].intervals[metric].value, arm) for arm in arms if not arm.arm.is_control]
    if known := [(value, arm) for value, arm in values if value is not None]:
        pick = min if lower_is_better(metric) else max
        best = pick(known, key=lambda each: each[0])[1]  # the first of equals
    if best is not None and best is not arms[0]:
        # Once more with the best first, which is compared with each other arm.
        val = _analyze(store, [best, *(arm for arm in arms if arm is not best)], "val")
    test = _analyze(store, arms, "test") if all("test" in arm.rows for arm in arms) else None
    return SweepResult(sweep, arms, left_out, metric, best, val, test)


def _read(store: Store, arm: Arm) -> FinishedArm:
    view = RunView(store, arm.run)
    stages = view.stages()
    mode = next((m for m in ("reasoning", "label_only") if f"decide/student/{m}" in stages), None)
    if mode is None:
        raise MissingInputError(
            f"run {arm.run} exported nothing (stages.export), so there is nothing to compare"
        )
    splits: tuple[SplitName, ...] = ("val", "test")
    exported = {split: f"export/student/{split}/{mode}" for split in splits}
    return FinishedArm(
        arm=arm,
        result=load_run_result(store, arm.run) or RunResult(run_dir=f"{FOLDER}/{arm.run}"),
        split=view.earlier("split", file="data_splits/test.csv"),
        rows={
            split: view.earlier(slot, file=f"student_phase/{split}.json")
            for split, slot in exported.items()
            if slot in stages
        },
        decision=view.earlier(f"decide/student/{mode}", file="student_phase/decision.json"),
        made=sum(not stage.reused for stage in stages.values()),
        stages=len(stages),
    )


def _analyze(store: Store, arms: Sequence[FinishedArm], split: SplitName) -> Analysis:
    scored = []
    for arm in arms:
        rows = Predictions.read(store.file(arm.rows[split], SCORES))
        frozen = Decision.read(store.file(arm.decision, DECISION))
        scored.append(Scored(arm.name, arm.name, rows, frozen, kind="student"))
    examples = read_examples(store.file(arms[0].split, f"{split}.csv"))
    return measure_scorers(split, examples, scored, seed=arms[0].arm.resolved.config.seed)
