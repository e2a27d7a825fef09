"""How long the exact threshold takes on a million rows. Run: python tests/benchmarks/bench_threshold.py"""

from __future__ import annotations

import time

import numpy as np

from core.evaluation.threshold import choose


def main(rows: int = 1_000_000) -> None:
    rng = np.random.default_rng(7)
    positive = rng.random(rows) < 0.1
    smooth = np.clip(rng.normal(0.3 + 0.3 * positive, 0.15), 0, 1)
    for name, p in (("distinct", smooth), ("in steps of 1/1000", np.round(smooth, 3))):
        started = time.perf_counter()
        found = choose(positive, p)
        seconds = time.perf_counter() - started
        print(f"threshold, {rows:,} rows, scores {name}: {seconds:.2f} s, {found.candidates:,} candidates")


if __name__ == "__main__":
    main()
