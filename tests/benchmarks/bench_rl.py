"""Reinforcement of a tiny model that answers in form and knows nothing: what three seeds gain on val."""

from __future__ import annotations

import contextlib
import csv
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from core import jsonio
from core.base_model import resolve_model
from core.config.loading import load
from core.evaluation.student_scores import METRICS_FILE, MeasureSettings, evaluate, read_metrics
from core.pipeline.run_context import RL, RunContext
from core.progress import Silent
from core.rl.stages import ANSWERS, PolicySettings, RewardSettings, reinforce, reward
from core.stage import build
from core.store import Store
from tests.answering_model import write_answering_model
from tests.building import build_split
from tests.conftest import SMOLLM2
from tests.core.pipeline.making import policy
from tests.small_project import HAM, SPAM, WORDS, write_project

SEEDS = (1, 2, 3)
TEXTS, STEPS = 240, 60
SETTINGS = (
    "student.target=label_only",
    "student.engine.device=cpu",
    f"reinforce.steps={STEPS}",
    f"reinforce.interval={STEPS}",
    "reinforce.learning_rate=0.01",
    "reinforce.schedule=linear",
    "reinforce.max_new_tokens=12",
    "data.sizes={train: 0.6, val: 0.3, test: 0.1}",
)


@dataclass(frozen=True, slots=True)
class Gained:
    """One seed: by text of val what its greedy answer earns more, and macro-F1 before and after."""

    seed: int
    gains: list[float]
    before: float
    after: float
    seconds: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.gains)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        place = Path(folder)
        write_answering_model(place / "model", resolve_model(SMOLLM2).folder)
        config = write_project(place, place / "model")
        write_texts(place / "texts.csv")
        show([one(config, seed) for seed in SEEDS])


def write_texts(path: Path) -> None:
    """The small project's two kinds of texts, half of each, so that no label is right more often."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text", "label"))
        for i in range(TEXTS):
            spam = i % 2
            text = (SPAM if spam else HAM).format(i=i * 37 % 101, w=WORDS[i // 2 % len(WORDS)])
            writer.writerow((f"t{i:03}", text, spam))


def one(config: Path, seed: int) -> Gained:
    of = RunContext(load(config, [*SETTINGS, f"student.seeds=[{seed}]", f"run.root=out-{seed}"]).config)
    store = Store.open(of.config.run.root)
    split = build_split(store, of.config)
    [arguments] = policy(of, store, split)
    began = time.monotonic()
    call = reinforce.call(PolicySettings.of(of.config), of, *arguments, split=split)
    end = build(store, call, Silent()).manifest
    seconds = time.monotonic() - began
    of.close()
    earned, f1 = [], []
    for checkpoint in (None, end):
        on = {"split": split, "checkpoint": checkpoint}
        at = {"phase": RL, "step": STEPS if checkpoint else 0}
        rewarded = build(store, reward.call(RewardSettings.of(of.config), of, at, **on), Silent())
        earned.append([row["reward"] for row in jsonio.read_jsonl(store.file(rewarded.manifest, ANSWERS))])
        settings = MeasureSettings.for_evaluation(of.config)
        measured = build(store, evaluate.call(settings, of, at, **on), Silent())
        f1.append(read_metrics(store.file(measured.manifest, METRICS_FILE))["macro_f1"] or 0.0)
    gains = [after - before for before, after in zip(*earned, strict=True)]
    return Gained(seed, gains, f1[0], f1[1], seconds)


def interval(values: list[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean."""
    mean, error = statistics.fmean(values), stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, error) if error else (mean, mean)
    return float(low), float(high)


def show(found: list[Gained]) -> None:
    print(f"reward of greedy answers on val, {STEPS} steps of 8 texts and 8 answers, gain over step 0")
    for of in found:
        low, high = interval(of.gains)
        print(
            f"  seed {of.seed}: {of.mean:+.3f} [{low:+.3f}, {high:+.3f}] over {len(of.gains)} texts; "
            f"macro-F1 on val {of.before:.3f} -> {of.after:.3f}; {of.seconds:.0f} s"
        )
    low, high = interval([of.mean for of in found])
    mean = statistics.fmean(of.mean for of in found)
    verdict = "above 0" if low > 0 else "NOT above 0"
    print(f"  over {len(found)} seeds: {mean:+.3f} [{low:+.3f}, {high:+.3f}], {verdict} (goal: above 0)")
    worse = [of.seed for of in found if of.after < of.before]
    print(f"  macro-F1 on val is worse than at step 0 for seeds: {worse or 'none'} (goal: none)")


if __name__ == "__main__":
    main()
