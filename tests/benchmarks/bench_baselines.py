"""How long the classical baselines take, their settings being chosen on val, on 20,000 train rows.

Run on one core: OMP_NUM_THREADS=1 make bench ONLY=baselines
"""

from __future__ import annotations

import random
import time

from core.errors import CLASSICAL
from core.evaluation.baselines import fit
from core.records import Example, SplitName

TRAIN, OTHER = 20_000, 2_000
WORDS, VOCABULARY = 20, 30_000
GOAL_S = 60.0


def main() -> None:
    """Texts of some 20 words, as frequent as Zipf has them; one word in ten speaks for its class."""
    splits = made({"train": TRAIN, "val": OTHER, "test": OTHER})
    fit("tfidf_words", splits["val"], {"val": splits["val"]})  # imports
    wall, cpu = time.perf_counter(), time.process_time()
    found = [fit(name, splits["train"], splits) for name in CLASSICAL]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    chosen = ", ".join(f"{b.name} C {b.settings['C']:g}" for b in found if "C" in b.settings)
    print(
        f"baselines, {TRAIN:,} train rows, {OTHER:,} of val and of test: {wall:.1f} s, {cpu:.1f} s of CPU "
        f"(goal {GOAL_S:.0f} s on one core); {chosen}"
    )


def made(sizes: dict[SplitName, int]) -> dict[SplitName, list[Example]]:
    """Invented texts by split."""
    rng = random.Random(7)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgk", k=rng.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = [1 / (i + 1) for i in range(VOCABULARY)]
    halves = [(words[i::2], weights[i::2]) for i in (0, 1)]

    def text(label: int) -> str:
        common = rng.choices(words, weights, k=WORDS * 9 // 10)
        own, of_own = halves[label]
        return " ".join([*common, *rng.choices(own, of_own, k=WORDS // 10)])

    def example(name: str) -> Example:
        label = int(rng.random() < 0.3)
        return Example(name, text(label), label)

    return {split: [example(f"{split}{i}") for i in range(size)] for split, size in sizes.items()}


if __name__ == "__main__":
    main()
