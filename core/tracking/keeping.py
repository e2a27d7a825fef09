"""The libraries of trackers behind one face; used in the trackers' own processes alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from core.batches import batched

_BATCH = 100
"""Parameters that MLflow takes at once."""
_LONGEST = 6_000
"""Characters of a value that MLflow takes."""


class Keeper(Protocol):
    """One run at a tracker."""

    def points(self, step: int | None, values: Mapping[str, float | str]) -> None:
        """Metrics at a step, or of the whole run."""

    def end(self, state: str) -> None:
        """No more will come; the run is finished, stopped or failed."""


def open_keeper(name: str, settings: Mapping[str, Any], run: Mapping[str, Any]) -> Keeper:
    """Begin, or go on with, a run: `run` has id, name and config.

    Raises whatever the library does, ImportError where it is not installed.
    """
    return Wandb(settings, run) if name == "wandb" else Mlflow(settings, run)


class Wandb:
    """Weights & Biases. Steps are metrics of their own: a run that resumes may tell earlier ones."""

    def __init__(self, settings: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=settings["project"],
            entity=settings["entity"],
            mode=settings["mode"],
            id=run["id"],
            name=run["name"],
            config=dict(run["config"]),
            resume="allow",
            # Nothing but what it is given: no console, no code, no use of the machine.
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
            ),
        )
        self._run.define_metric("step")
        for series in ("train", "val", "rl", "rl_val"):
            self._run.define_metric(f"{series}/*", step_metric="step")

    def points(self, step: int | None, values: Mapping[str, float | str]) -> None:
        if step is None:
            self._run.summary.update(dict(values))
        else:
            self._run.log({"step": step, **values})

    def end(self, state: str) -> None:
        self._run.finish(exit_code=0 if state == "finished" else 1)


class Mlflow:
    """MLflow's tracking store: a server, a database or a folder."""

    def __init__(self, settings: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric: Any = Metric
        self._client: Any = MlflowClient(tracking_uri=settings["tracking_uri"])
        experiment = self._experiment(settings["experiment"])
        tag = "understudy.id"
        there = self._client.search_runs([experiment], f"tags.`{tag}` = '{run['id']}'")
        if there:
            self._id = there[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        made = self._client.create_run(experiment, run_name=run["name"], tags={tag: run["id"]})
        self._id = made.info.run_id
        rows = [Param(key, str(value)[:_LONGEST]) for key, value in run["config"].items()]
        for some in batched(rows, _BATCH):
            self._client.log_batch(self._id, params=some)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def points(self, step: int | None, values: Mapping[str, float | str]) -> None:
        from time import time

        at = int(time() * 1000)
        numbers = [(k, v) for k, v in values.items() if isinstance(v, int | float)]
        metrics = [self._metric(key, float(value), at, step or 0) for key, value in numbers]
        self._client.log_batch(self._id, metrics=metrics)
        for key, value in values.items():
            if isinstance(value, str):
                self._client.set_tag(self._id, key, value)

    def end(self, state: str) -> None:
        status = {"finished": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED")
        with contextlib.suppress(AttributeError):
            self._client.set_terminated(self._id, status)
