"""Bootstrap, thresholds and calibration against their goals, and how often intervals hold the truth.

Run on one core: OMP_NUM_THREADS=1 make bench ONLY=statistics
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from core.config import METRICS, CalibrationConfig, ThresholdConfig
from core.evaluation.analysis import Scored, measure_scorers
from core.evaluation.bootstrap import Judged, intervals
from core.evaluation.calibration import Calibrator, calibrate
from core.evaluation.decision import Decision
from core.evaluation.predictions import Bools, Floats, Predictions
from core.evaluation.threshold import RESAMPLES, choose, spread
from core.records import Example

T = TypeVar("T")
BOOTSTRAP_GOAL, THRESHOLD_GOAL = 3.0, 1.0
OBJECTIVES = (
    ThresholdConfig(),
    ThresholdConfig(objective="f1"),
    ThresholdConfig(objective="cost", cost_ratio=5),
    ThresholdConfig(objective="recall_at_precision", precision=0.9),
    ThresholdConfig(objective="precision_at_recall", recall=0.9),
    ThresholdConfig(objective="share_flagged", share=0.05),
)


def main() -> None:
    """Print seconds, memory and coverage."""
    _draw(10, 0.5, 0)
    intervals(np.array([True, False]), [Judged(np.array([0.9, 0.1]), None)], resamples=2)  # imports
    _bootstraps()
    _thresholds()
    _fits()
    _analysis()
    _coverage()


def _bootstraps(rows: int = 10_000) -> None:
    before = _peak()
    for share in (0.1, 0.3, 0.5):
        y, p = _draw(rows, share, 1)
        took = _timed(lambda: intervals(y, [Judged(p, p >= 0.5)]))[0]  # noqa: B023
        print(
            f"10,000 bootstraps of {len(METRICS)} metrics, {rows:,} rows, {share:.0%} positive: "
            f"{took} (goal for five metrics {BOOTSTRAP_GOAL:.0f} s)"
        )
    y, p = _draw(rows, 0.3, 1)
    groups = [f"g{i // 5}" for i in range(rows)]
    took = _timed(lambda: intervals(y, [Judged(p, p >= 0.5)], groups))[0]
    print(f"  in {rows // 5:,} groups: {took}; memory above the imports {_peak() - before:.0f} MB")


def _thresholds(rows: int = 1_000_000) -> None:
    y, p = _draw(rows, 0.1, 2)
    for config in OBJECTIVES:
        took, found = _timed(lambda: choose(y, p, config))  # noqa: B023
        print(
            f"exact threshold by {config.objective}, {rows:,} scores, {found.candidates:,} candidates: "
            f"{took} (goal {THRESHOLD_GOAL:.0f} s)"
        )
    y, p = _draw(10_000, 0.1, 3)
    took = _timed(lambda: spread(y, p, 0.5, ThresholdConfig()))[0]
    print(f"threshold's spread, 10,000 rows, {RESAMPLES:,} resamples: {took}")


def _fits(rows: int = 10_000) -> None:
    y, p = _draw(rows, 0.3, 4)
    took, found = _timed(lambda: calibrate(y, p, CalibrationConfig(method="auto")))
    print(f"auto calibration, {rows:,} rows: {took}, takes {found.kind}")


def _analysis(rows: int = 10_000, scorers: int = 6) -> None:
    y, p = _draw(rows, 0.3, 5)
    examples = [Example(f"r{i}", "x" * (i % 997), int(gold)) for i, gold in enumerate(y)]
    decision = Decision(Calibrator.identity("none"), 0.5, "by definition")
    noise = np.random.default_rng(6).normal(0, 0.1, (scorers, rows))
    made = [
        Scored(f"s{k}", f"S{k}", _scored(examples, np.clip(p + k * noise[k], 0, 1)), decision)
        for k in range(scorers)
    ]
    took, found = _timed(lambda: measure_scorers("test", examples, made))
    size = len(json.dumps(found.to_json())) / 1e6
    print(f"whole analysis, {rows:,} rows, {scorers} scorers: {took}, {size:.2f} MB of JSON")


def _scored(examples: list[Example], p: Floats) -> Predictions:
    return Predictions.of([e.id for e in examples], p, gold=[e.label for e in examples])


def _coverage(samples: int = 400, rows: int = 300, names: tuple[str, ...] = METRICS.built_in()) -> None:
    """The share of samples whose interval holds the value of the population they were drawn from."""
    y, p = _draw(1_000_000, 0.2, 7)  # its classes' shares are then every sample's, as a split's are
    truth = intervals(y, [Judged(p, p >= 0.5)], resamples=1)[0]
    held = dict.fromkeys(names, 0)
    ups, downs = np.flatnonzero(y), np.flatnonzero(~y)
    rng = np.random.default_rng(8)
    for k in range(samples):
        rows_of = np.concatenate([rng.choice(ups, rows // 5), rng.choice(downs, rows - rows // 5)])
        q = p[rows_of]
        for name, i in intervals(y[rows_of], [Judged(q, q >= 0.5)], resamples=1000, seed=k)[0].items():
            value = truth[name].value
            if i.low is not None and i.high is not None and value is not None:
                held[name] += i.low <= value <= i.high
    print(f"95 % intervals that hold the truth, {samples} samples of {rows} rows:")
    print("  " + ", ".join(f"{name} {count / samples:.1%}" for name, count in held.items()))


def _draw(rows: int, share: float, seed: int) -> tuple[Bools, Floats]:
    rng = np.random.default_rng(seed)
    y = rng.random(rows) < share
    return y, 1 / (1 + np.exp(-rng.normal(-1.5 + 2.5 * y, 1.5)))


def _timed(work: Callable[[], T]) -> tuple[str, T]:
    """Seconds by the clock and of the processor: on a busy machine the second is what the work costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return f"{time.perf_counter() - wall:.2f} s, CPU {time.process_time() - cpu:.2f} s", result


def _peak() -> float:
    """Peak resident memory so far, in MB (ru_maxrss is kB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
