"""What reinforcement would do, said before anything is done: no Prefect, no torch, nothing written."""

from __future__ import annotations

from core.config.loading import ResolvedConfig
from core.pipeline import starting
from core.pipeline.rl_forecast import forecast
from core.pipeline.stages import Pipeline
from core.store.objects import Store
from core.store.runs import RunView
from flows.planning import needed_keys


def describe(resolved: ResolvedConfig, source: str | None) -> str:
    """The start, the steps and their price as text; without a split, what is missing for that."""
    view = RunView(Store.at(resolved.config.run.root), resolved.run_name)
    pipeline = Pipeline(resolved.config)
    pipeline.preflight(online=False)
    stage = pipeline.split()
    parts = view.store.sound(stage.name, stage.key)
    if parts is None:
        return "the data is not split yet: run `understudy run` first, or reinforce without --plan"
    start = starting.find(view, resolved.config, pipeline.bench, parts, source)
    counts = {name: sum(labels.values()) for name, labels in parts.summary["labels"].items()}
    lines = forecast(resolved.config, pipeline.bench, view.store.folder(parts), counts)
    head = f"run {view.name} under {view.store.backend.url}, from {start}"
    return "\n".join([head, *needed_keys(pipeline), *lines])
