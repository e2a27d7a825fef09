"""The trackers of a run, each in a child process that reads a spool file, and the metrics they receive.

Nothing here blocks except the end of the run, which waits for `trackers.patience_s` at most. A tracker that
fails costs one warning and does not affect results.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem
from pathlib import Path
from typing import Any

from core.config import METRICS, Config
from core.config.section import walk
from core.errors import Failure, Failures, Part, named
from core.evaluation.metrics import Metrics
from core.jsonio import InvalidFile, Record, parse
from core.rejection.funnel import TeacherSummary
from core.results import RunResult, load_run_result
from core.rl.rewards import RLStep
from core.store import RunView
from core.student.train_stage import TrainStep
from core.tracking.child import ABANDONED, ENDED, ERROR, READY, SPOOL

log = logging.getLogger(__name__)

FILE = "trackers.json"
_PREDECESSOR_NAMES = {"loss": "log_loss", "cls_loss": "log_loss"}
"""Metrics that are sent under the names of the earlier scripts, too."""
_PACKAGES = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default it asks an unreachable server for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Defaults for the child process; the user's environment has priority."""


@dataclass(frozen=True, slots=True)
class TrackedPoint:
    """Metrics at a step of a series, which is sent once; without a step, metrics of the whole run.

    Names are those that the predecessor's users have in their charts.
    """

    series: str
    step: int | None
    values: Mapping[str, float | str]


class SentSteps(Record):
    """`trackers.json`: the id under which trackers know the run, and by tracker and series the steps sent."""

    id: str
    told: dict[str, dict[str, list[int]]] = {}


class TrackerProcess:
    """One tracker's child process. Steps that an earlier process sent are not sent again."""

    def __init__(
        self,
        name: str,
        opening: Mapping[str, Any],
        sent: Mapping[str, Iterable[int]],
        patience_s: float,
        failures: Failures,
    ) -> None:
        """`opening` are the arguments of the tracker's client in core.tracking.child."""
        self.name, self._patience_s, self._failures = name, patience_s, failures
        self.failed = False
        self._sent = {series: set(steps) for series, steps in sent.items()}
        self._deadline = 0.0
        self._folder = Path(tempfile.mkdtemp(prefix=f"understudy-{name}-"))
        self._spool = (self._folder / SPOOL).open("a", encoding="utf-8")
        self._write({"tracker": name, **opening})
        path = os.pathsep.join([str(_PACKAGES), *filter(None, [os.getenv("PYTHONPATH")])])
        self._process = subprocess.Popen(
            # -P: do not import a folder `core` of the working directory.
            [sys.executable, "-P", "-m", "core.tracking.child", str(self._folder)],
            env={**_ENVIRONMENT, **os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def sent(self) -> dict[str, list[int]]:
        """The steps sent so far, by series."""
        return {series: sorted(steps) for series, steps in self._sent.items()}

    @property
    def pid(self) -> int:
        """The child process, which leads a process group of its own."""
        return self._process.pid

    def send(self, points: Iterable[TrackedPoint]) -> None:
        """Spool points, without steps that were sent before."""
        for point in points:
            if point.step is not None:
                steps = self._sent.setdefault(point.series, set())
                if point.step in steps:
                    continue
                steps.add(point.step)
            self._write({"step": point.step, "values": dict(point.values)})
        self._check()

    def end(self, state: str) -> None:
        """Close the spool; the time that `wait` may take begins."""
        self._write({"end": state})
        self._spool.close()
        self._deadline = time.monotonic() + self._patience_s

    def wait(self) -> None:
        """Wait for the child until the deadline; it may continue to send by itself."""
        while self._process.poll() is None and time.monotonic() < self._deadline:
            time.sleep(0.05)
        is_running = self._process.poll() is None
        self._check()
        if not is_running:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        with contextlib.suppress(OSError):
            (self._folder / ABANDONED).touch()
        if not (self._folder / READY).exists():
            self._fail(TimeoutError, f"no answer within {self._patience_s:g} s")
        elif not self.failed:
            log.info("%s continues to send in the background; the run does not wait for it", self.name)

    def _check(self) -> None:
        """Record an error of the child, or that its process ended unexpectedly."""
        code, error = self._process.poll(), self._folder / ERROR
        if error.exists():
            self._fail(ChildProcessError, error.read_text(encoding="utf-8"))
        elif code is not None and not (self._folder / ENDED).exists():
            self._fail(ChildProcessError, f"its process ended unexpectedly (exit code {code})")

    def _fail(self, error: type[Exception], why: str) -> None:
        if not self.failed:
            self.failed = True
            self._failures.add(Failure(named(Part.TRACKER, self.name), error.__name__, why))
            log.warning("tracker %s: %s; the run continues without it", self.name, why)

    def _write(self, line: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk stops the run elsewhere, with a message
            self._spool.write(json.dumps(line) + "\n")
            self._spool.flush()


class Trackers:
    """The trackers that the config names; usually none."""

    def __init__(self, processes: Sequence[TrackerProcess] = (), failures: Failures | None = None) -> None:
        self.processes = processes
        self._failures = failures if failures is not None else Failures()
        self._ended = False

    def send(self, points: Iterable[TrackedPoint]) -> None:
        """Pass points on. A tracker that fails is recorded; it affects nothing else."""
        if self.processes:
            spooled = list(points)
            self._each(lambda process: process.send(spooled))

    def finish(self, view: RunView) -> None:
        """Send the run's result and end as finished."""
        if self.processes and not self._ended:
            with self._failures.optional(Part.TRACKER, "final figures"):
                if (result := load_run_result(view.store, view.name)) is not None:
                    self.send([result_point(result)])
        self.end("finished")

    def end(self, state: str) -> None:
        """End all trackers, and wait for them in parallel; a second call does nothing."""
        if self._ended:
            return
        self._ended = True
        self._each(lambda process: process.end(state))
        self._each(lambda process: process.wait())

    def _each(self, act: Callable[[TrackerProcess], None]) -> None:
        for process in self.processes:
            with self._failures.optional(Part.TRACKER, process.name):
                act(process)


@contextlib.contextmanager
def tracked(config: Config, view: RunView, failures: Failures | None = None) -> Iterator[Trackers]:
    """Start the trackers of a run, and end them with its result; failed ones are added to `failures`."""
    failures = failures if failures is not None else Failures()
    sections = {"wandb": config.trackers.wandb, "mlflow": config.trackers.mlflow}
    settings = {name: section for name, section in sections.items() if section is not None}
    if not settings:
        yield Trackers()
        return
    record = new = SentSteps(id=uuid.uuid4().hex[:16])
    with failures.optional(Part.TRACKER, FILE):
        if (found := view.read_bytes(FILE)) is not None:
            with contextlib.suppress(InvalidFile):
                record = parse(SentSteps, found)[0]
        if record is new:
            view.write_json(FILE, new.to_json())
    # The config by dotted keys; it has names of credentials, never credentials.
    values = config.model_dump(mode="json")
    flat = {".".join(key): functools.reduce(getitem, key, values) for key, _, _ in walk(config)}
    run = {"id": record.id, "name": view.name, "config": flat}
    processes: list[TrackerProcess] = []
    for name, section in settings.items():
        with failures.optional(Part.TRACKER, name):
            opening, sent = {"settings": section.model_dump(), "run": run}, record.told.get(name, {})
            patience_s = config.trackers.patience_s
            processes.append(TrackerProcess(name, opening, sent, patience_s, failures))
    trackers, state = Trackers(processes, failures), "failed"
    try:
        yield trackers
        trackers.finish(view)
    except BaseException as e:
        state = "failed" if isinstance(e, Exception) else "stopped"
        raise
    finally:
        trackers.end(state)
        told = {process.name: process.sent for process in processes if not process.failed}
        with failures.optional(Part.TRACKER, FILE):
            view.write_json(FILE, SentSteps(id=record.id, told={**record.told, **told}).to_json())


def training_points(rows: Iterable[TrainStep]) -> Iterator[TrackedPoint]:
    """Training by step, counted from 1."""
    for row in rows:
        values = {
            "train/trainer_loss": row.loss,
            "train/lr": row.learning_rate,
            "train/grad_norm": row.grad_norm,
            "train/tokens": row.tokens,
        }
        yield TrackedPoint("train", row.step + 1, _defined(values))


def reward_points(rows: Iterable[RLStep]) -> Iterator[TrackedPoint]:
    """Reinforcement by step."""
    for row in rows:
        values = {
            "rl/loss": row.loss,
            "rl/reward_mean": row.reward_mean,
            "rl/reward_std": row.reward_std,
            "rl/accuracy": row.batch_acc,
            "rl/invalid_rate": row.invalid_rate,
            "rl/kl": row.kl_logprob_diff_mean,
            "rl/lr": row.learning_rate,
        }
        yield TrackedPoint("rl", row.step, _defined(values))


def evaluation_point(step: int, metrics: Metrics, series: str = "val") -> TrackedPoint:
    """A checkpoint on val; those of reinforcement are the series `rl_val`."""
    return TrackedPoint(series, step, _defined(_metrics(series, metrics)))


def teacher_point(summary: TeacherSummary) -> TrackedPoint:
    """The teacher's answers and how many were accepted."""
    values = {
        "teacher/requested_samples": summary.requested_samples,
        "teacher/accepted_samples": summary.accepted_samples,
        "teacher/acceptance_rate": summary.acceptance_rate,
    }
    return TrackedPoint("teacher", None, _defined(values))


def result_point(result: RunResult) -> TrackedPoint:
    """The selected checkpoint on test, and what the run cost."""
    test, student = result.student_on_test, result.ledger.student
    values: dict[str, float | str | None] = {
        **({} if test is None else _metrics("bestval_test", test)),
        "selection/metric_name": result.selection_metric,
        "selection/best_val_metric": result.best_val_selection_metric_value,
        "best_step": result.best_step,
        "report": result.report_path,
        "best_model_path": result.best_model_path,
        "cost/usd": result.ledger.usd,
        "cost/seconds": round(result.ledger.total_seconds, 1),
    }
    if student is not None:
        values |= {
            "cost/trained_tokens": student.trained_tokens,
            "cost/prefilled_tokens": student.prefilled_tokens,
            "cost/sampled_tokens": student.sampled_tokens,
            "cost/requests": student.requests,
        }
    return TrackedPoint("final", None, _defined(values))


def _metrics(prefix: str, metrics: Metrics) -> dict[str, float | str | None]:
    """All registered metrics, some of them under the predecessor's names as well."""
    found = {
        **{name: metrics.values.get(own) for name, own in _PREDECESSOR_NAMES.items()},
        **{name: metrics[name] for name in (*METRICS, "invalid_label_rate", "decision_threshold")},
    }
    return {f"{prefix}/{name}": value for name, value in found.items()}


def _defined(values: Mapping[str, float | str | None]) -> dict[str, float | str]:
    """Leave out undefined metrics: trackers cannot show the reason."""
    return {name: value for name, value in values.items() if value is not None}
