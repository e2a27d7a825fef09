"""A tracker's own process: `python -m core.tracking.child FOLDER` sends what the run spools there.

A library that hangs, crashes or delays the interpreter's exit does so here and cannot affect the run. Its
error is written to a file; what it prints is discarded.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from core.records import batched

SPOOL, READY, ENDED, ERROR, ABANDONED = "records.jsonl", "ready", "ended", "error.txt", "abandoned"
"""The run creates `abandoned` when it stops waiting; this process then removes the folder."""
START_LIMIT_S, END_LIMIT_S = 60, 600
"""Time limits to open a run at the tracker, and to send the rest after the run has ended."""
_POLL_S = 0.2
ConfigValue: TypeAlias = "bool | int | float | str | list[ConfigValue] | dict[str, ConfigValue] | None"
FlatConfig: TypeAlias = Mapping[str, ConfigValue]
"""The config of a run by dotted keys."""
_MLFLOW_BATCH, _MLFLOW_VALUE = 100, 6_000
"""MLflow's limits: parameters per request, and characters of a value."""


class Wandb:
    """Weights & Biases. Steps are metrics of their own, because a resumed run may send earlier steps."""

    def __init__(
        self, id: str, name: str, config: FlatConfig, project: str, entity: str | None, mode: Any
    ) -> None:
        import wandb

        self._run = wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            id=id,
            name=name,
            config=dict(config),
            resume="allow",
            # Send only what it is given: no console, no code, no machine statistics.
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

    def log(self, step: int | None, values: Mapping[str, float | str]) -> None:
        """Send metrics at a step, or of the whole run."""
        if step is None:
            self._run.summary.update(dict(values))
        else:
            self._run.log({"step": step, **values})

    def finish(self, state: str) -> None:
        """Close the run as finished, stopped or failed."""
        self._run.finish(exit_code=0 if state == "finished" else 1)


class Mlflow:
    """MLflow: a server, a database or a folder. Methods as those of Wandb."""

    def __init__(
        self, id: str, name: str, config: FlatConfig, tracking_uri: str | None, experiment: str
    ) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric: Any = Metric
        self._client: Any = MlflowClient(tracking_uri=tracking_uri)
        found = self._client.get_experiment_by_name(experiment)
        parent = str(found.experiment_id if found else self._client.create_experiment(experiment))
        tag = "understudy.id"
        earlier = self._client.search_runs([parent], f"tags.`{tag}` = '{id}'")
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        self._id = self._client.create_run(parent, run_name=name, tags={tag: id}).info.run_id
        params = [Param(key, str(value)[:_MLFLOW_VALUE]) for key, value in config.items()]
        for batch in batched(params, _MLFLOW_BATCH):
            self._client.log_batch(self._id, params=batch)

    def log(self, step: int | None, values: Mapping[str, float | str]) -> None:
        at = int(time.time() * 1000)
        numbers = [(key, value) for key, value in values.items() if isinstance(value, int | float)]
        metrics = [self._metric(key, float(value), at, step or 0) for key, value in numbers]
        self._client.log_batch(self._id, metrics=metrics)
        for key, value in values.items():
            if isinstance(value, str):
                self._client.set_tag(self._id, key, value)

    def finish(self, state: str) -> None:
        status = {"finished": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED")
        with contextlib.suppress(AttributeError):
            self._client.set_terminated(self._id, status)


CLIENTS: dict[str, type[Wandb] | type[Mlflow]] = {"wandb": Wandb, "mlflow": Mlflow}


def main(folder: Path) -> int:
    """Follow the spool to its end. Returns exit code 1 if the tracker failed."""
    lines = _lines(folder / SPOOL, os.getppid())
    tracker = ""
    try:
        signal.alarm(START_LIMIT_S)  # ends the process even if a library hangs in C
        tracker, settings, run = next(lines).values()
        client = CLIENTS[tracker](**run, **settings)
        signal.alarm(0)
        (folder / READY).touch()
        for line in lines:
            match line:
                case {"end": str(state)}:
                    signal.alarm(END_LIMIT_S)  # the library may wait for an unreachable network
                    client.finish(state)
                case {"step": step, "values": values}:
                    client.log(step, values)
        (folder / ENDED).touch()
    except BaseException as e:  # a library may raise anything, even SystemExit
        error = f"{type(e).__name__}: {' '.join(str(e).split())}"[:500]
        if isinstance(e, ImportError) and (e.name or "").partition(".")[0] == tracker:
            error = f"it is not installed: pip install 'understudy-distill[{tracker}]'"
        temporary = folder / "error.new"
        temporary.write_text(error, encoding="utf-8", errors="backslashreplace")
        temporary.replace(folder / ERROR)
        return 1
    finally:
        signal.alarm(0)
        if (folder / ABANDONED).exists():
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _lines(path: Path, parent: int) -> Iterator[dict[str, Any]]:
    """Yield lines as they are written, up to the end line; if the run's process is gone, make one up."""
    with path.open(encoding="utf-8") as f:
        rest = ""
        while True:
            rest += f.readline()
            if rest.endswith("\n"):
                line: dict[str, Any] = json.loads(rest)
                yield line
                if "end" in line:
                    return
                rest = ""
            elif os.getppid() != parent:
                yield {"end": "stopped"}
                return
            else:
                time.sleep(_POLL_S)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    signal.alarm(END_LIMIT_S)  # a library may delay the interpreter's exit
    sys.exit(code)
