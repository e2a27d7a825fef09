"""The runs of other seeds, and what their students reached."""

from __future__ import annotations

from core.config import Config
from core.export.manifests import metrics_name
from core.pipeline.scorers import Scorer
from core.records import SplitName
from core.report.inputs import SeedResult
from core.store.objects import Store


def name_of(run: str, seed: int) -> str:
    """The run of another seed."""
    return f"{run}-seed{seed}"


def others(config: Config) -> tuple[int, ...]:
    """The seeds that are trained besides the run's own."""
    return config.student.seeds[1:]


def results(store: Store, run: str, config: Config, mode: Scorer, split: SplitName) -> list[SeedResult]:
    """What the students of other seeds reached on a split, of those that were measured so far."""
    out = []
    for seed in others(config):
        name = name_of(run, seed)
        file = metrics_name(split, label_only=mode.kind == "label_only")
        found = store.read_json(f"runs/{name}/student_phase/{file}")
        if found is not None:
            out.append(SeedResult(name, seed, found["metrics"]))
    return out
