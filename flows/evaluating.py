"""Evaluations of a run's checkpoints: called one by one, or submitted where the engine overlaps them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

from core.config.measure import EarlyStopping
from core.evaluation.metrics import value
from core.pipeline.views import View, evaluation_row
from core.stages import Stage
from core.store.manifest import Manifest
from flows.execution import Execution
from flows.submitting import Submitted
from flows.walking import Trained, metrics_of, stops

log = logging.getLogger(__name__)


class Evaluations:
    """Measures checkpoints on val, and takes the results in by their steps, never by arrival.

    With early stopping nothing is submitted: whether training goes on hangs on each result. Use it
    as a context: at its end every evaluation has been waited for, also where something failed.
    """

    def __init__(
        self,
        run: Execution,
        view: View,
        parts: Manifest,
        trained: Trained,
        stopping: EarlyStopping | None,
        *,
        measures: bool = True,
    ) -> None:
        """Unless it `measures`, nothing is evaluated: training alone was asked for."""
        self._run, self._view, self._parts, self._trained = run, view, parts, trained
        self._stopping, self._measures = stopping, measures
        self._waiting: list[tuple[int, Submitted]] = []
        self._ensure: Callable[[int], None] = lambda step: None

    def __enter__(self) -> Evaluations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.collect()
        finally:
            for _, submitted in self._waiting:
                submitted.let_go()

    def ensure_with(self, ensure: Callable[[int], None]) -> None:
        """What is called with a step before its checkpoint is measured: it has to be there."""
        self._ensure = ensure

    def measure(self, step: int) -> None:
        """Evaluate the checkpoint of a step, now or beside what follows."""
        if not self._measures:
            return
        self._take_finished()
        run, trained = self._run, self._trained
        stage = self._stage(step)
        can = run.pipeline.capabilities
        missing = (can.checkpoints_expire or can.overlaps_evaluation) and run.must_make(stage)
        if missing and can.checkpoints_expire and step in trained.checkpoints:
            self._ensure(step)
            stage = self._stage(step)
        if missing and self._overlaps:
            self._waiting.append((step, run.submit(stage)))
        else:
            self.collect()
            self._take(step, run.do_built(stage, f"{self._view.phase.folder}/metrics_val_step_{step}.json"))

    def _stage(self, step: int) -> Stage:
        checkpoint = self._trained.checkpoints.get(step)
        return self._run.pipeline.measuring.evaluate(self._parts, checkpoint, step, self._view.phase)

    def collect(self) -> None:
        """Wait for all that was submitted."""
        while self._waiting:
            self._take_first()

    def stops(self) -> bool:
        """Whether early stopping ends training here."""
        return stops(self._run, self._trained, self._stopping)

    @property
    def _overlaps(self) -> bool:
        return self._stopping is None and self._run.pipeline.capabilities.overlaps_evaluation

    def _take_finished(self) -> None:
        """In the order of steps; an evaluation that failed stops the run here, not at its end."""
        while self._waiting and self._waiting[0][1].done():
            self._take_first()

    def _take_first(self) -> None:
        step, submitted = self._waiting.pop(0)
        self._take(step, submitted.result())

    def _take(self, step: int, manifest: Manifest) -> None:
        run, trained = self._run, self._trained
        metrics = metrics_of(run, manifest)
        trained.add(step, manifest, metrics)
        checkpoint = trained.checkpoints.get(step)
        row = evaluation_row(manifest, checkpoint, self._parts, metrics, step, run.resolved.run_name)
        self._view.evaluate(step, row)
        chosen_by = run.config.evaluation.metric
        log.info(
            "%sstep %d on val: %s %s, AUROC %s, log loss %s, invalid %s",
            self._view.phase.said,
            step,
            chosen_by,
            *(_shown(value(metrics, m)) for m in (chosen_by, "auroc", "log_loss", "invalid_label_rate")),
        )
        rate = metrics.invalid_label_rate
        if step > 0 and rate is not None and rate > run.config.evaluation.invalid_warn_rate:
            log.warning("step %d: %.0f %% of val has no valid label at the label's place", step, 100 * rate)


def _shown(number: float | None) -> str:
    return "undefined" if number is None else f"{number:.4f}"
