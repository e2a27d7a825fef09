"""How long the report of a run takes, from statistics that are there, and how large the page is.

Run: make bench ONLY=report
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from core.evaluation.decision import Decision
from core.report.plots import save_learning_curve
from core.report.scorer_sections import worst
from tests.core.report.making import (
    RULES,
    as_markdown,
    as_page,
    examples,
    gold,
    other_seeds,
    scored,
    usual,
)

T = TypeVar("T")
ROWS = 10_000
WORDS = 250
"""Of each text: a review, or a short article."""
GOAL_S, GOAL_MB = 5.0, 5.0


def main() -> None:
    """Print seconds by part, the whole against its goal, and sizes."""
    texts = _texts(ROWS)
    report = usual(rows=ROWS, groups=5, texts=texts, reasoning=ROWS, seeds=other_seeds())
    rows = [
        dataclasses.replace(e, text=t) for e, t in zip(examples("test", gold(ROWS, 1)), texts, strict=True)
    ]
    said = scored(rows, apart=4.6, seed=20, reasoning=ROWS)
    as_page(report)  # imports
    took, wrong = _timed(lambda: worst(rows, said, Decision.by_definition(0.5), RULES))
    report = dataclasses.replace(report, mistakes=wrong)
    seconds = {f"{len(wrong)} worst errors of {ROWS:,} rows": took}
    with tempfile.TemporaryDirectory() as folder:
        seconds["learning_curve.png"] = _timed(
            lambda: save_learning_curve(report, Path(folder) / "curve.png")
        )[0]
    seconds["test_report.md"], text = _timed(lambda: as_markdown(report))
    seconds["report.html with its pictures"], html = _timed(lambda: as_page(report))
    pictures = html.count('class="plot"')
    for name, s in seconds.items():
        print(f"{name}: {s:.2f} s")
    whole, size = sum(seconds.values()), len(html.encode()) / 1e6
    print(f"together: {whole:.2f} s (goal {GOAL_S:g} s: {_met(whole, GOAL_S)})")
    print(f"report.html: {size:.2f} MB (goal {GOAL_MB:g} MB: {_met(size, GOAL_MB)}), {pictures} pictures")
    print(f"test_report.md: {len(text.encode()) / 1e3:.0f} kB")


def _texts(n: int) -> list[str]:
    rng = random.Random(1)
    words = ["".join(rng.choices("etaoinshrdlucm", k=rng.randint(2, 9))) for _ in range(5_000)]
    return [" ".join(rng.choices(words, k=WORDS)) for _ in range(n)]


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _met(value: float, goal: float) -> str:
    return "met" if value <= goal else "MISSED"


if __name__ == "__main__":
    main()
