"""The runs of other seeds, and their results."""

from __future__ import annotations

from collections.abc import Sequence

from core.config import Config, ResolvedConfig, differences
from core.config.config import walk
from core.errors import ConfigError
from core.export.manifests import SplitMetrics, metrics_name
from core.pipeline.opening import run_config
from core.pipeline.scorers import Scorer
from core.records import SplitName
from core.report import SeedResult
from core.store import Manifest, RunView, Store
from core.store.run_view import CONFIG
from core.student.encode_stage import encode


def name_of(run: str, seed: int) -> str:
    return f"{run}-seed{seed}"


def others(config: Config) -> tuple[int, ...]:
    """The seeds that are trained besides the run's own."""
    return config.student.seeds[1:]


def config_of(config: Config, run: str, seed: int) -> Config:
    """The config of a run with another seed, which is never published: the seed to publish is fixed in
    advance, so that it cannot be chosen by its results."""
    named = config.run.model_copy(update={"name": name_of(run, seed)})
    student = config.student.model_copy(update={"seeds": (seed,)})
    return config.model_copy(update={"run": named, "student": student, "publish": False})


def resolved_of(resolved: ResolvedConfig, seed: int) -> ResolvedConfig:
    """The config of a run with another seed, and where its values come from."""
    config = config_of(resolved.config, resolved.run_name, seed)
    origins = {key: resolved.origins.get(key, "") for key, _, _ in walk(config)}
    for key in (("run", "name"), ("student", "seeds"), ("publish",)):
        origins[key] = f"student.seeds of run {resolved.run_name}"
    return ResolvedConfig(config, origins)


def results(
    store: Store, run: str, config: Config, encoded: Manifest, mode: Scorer, split: SplitName
) -> list[SeedResult]:
    """The results of other seeds on a split, as far as they are measured.

    A student that learned from examples other than `encoded`, or by another config, is an earlier run's.
    """
    out, file = [], metrics_name(split, label_only=mode.kind == "label_only")
    for seed in others(config):
        view = RunView(store, name_of(run, seed))
        found = store.read_json(f"runs/{view.name}/student_phase/{file}")
        if found is not None and _same(view, config_of(config, run, seed), encoded):
            read = SplitMetrics.from_json(found, f"{view.name}/{file}")
            out.append(SeedResult(view.name, seed, read.metrics))
    return out


def missing(config: Config, measured: Sequence[SeedResult]) -> list[str]:
    """A sentence on the seeds that are not among those measured."""
    left = [str(seed) for seed in others(config) if seed not in {result.seed for result in measured}]
    if not left:
        return []
    what = f"Seed {left[0]} was" if len(left) == 1 else f"Seeds {', '.join(left)} were"
    return [f"{what} named and not measured yet: the same command continues with the rest."]


def _same(view: RunView, expected: Config, encoded: Manifest) -> bool:
    record = view.stages().get(encode.name)
    if view.read(CONFIG) is None or record is None or record.digest != encoded.digest:
        return False
    try:
        return not differences(run_config(view).config, expected)
    except ConfigError:  # of another version
        return False
