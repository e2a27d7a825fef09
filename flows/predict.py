"""Answering a table of texts as a flow: shards as tasks, on threads, Dask or Ray."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, get_type_hints

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from core import jsonio
from core.engines import Device
from core.errors import Failures, Part, UserError
from core.export import Weights
from core.export.bundle import FILE
from core.predict import PredictOptions, Runner
from core.predict import job as jobs
from core.predict.job import Job, JobResult, Shard, assemble, locked, shards
from core.predict.loaded_student import LoadedModel, find, open_model
from core.report import code
from tasks.stage_tasks import RETRIES, ArtifactProgress

log = logging.getLogger(__name__)


def _with_parameters(function: Callable[[PredictOptions], JobResult]) -> Callable[..., JobResult]:
    """Give the function a parameter for each option, as Prefect's form shows and checks them.

    A flow has no standard input and output, so there `input` and `output` are required.
    """
    hints, about = get_type_hints(PredictOptions), get_type_hints(PredictOptions, include_extras=True)
    parameters = []
    for each in inspect.signature(PredictOptions).parameters.values():
        default = each.empty if each.name in ("input", "output") else each.default
        parameters.append(each.replace(default=default, annotation=hints[each.name]))
    signature = inspect.Signature(parameters, return_annotation=JobResult)
    described = {name: found.help for name in hints for found in about[name].__metadata__}

    @wraps(function)
    def with_parameters(*arguments: Any, **named: Any) -> JobResult:
        return function(PredictOptions(**signature.bind(*arguments, **named).arguments))

    with_parameters.__signature__ = signature  # type: ignore[attr-defined]
    listed = "\n".join(f"    {name}: {text}" for name, text in described.items())
    with_parameters.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{listed}\n"
    return with_parameters


@flow(name="predict", flow_run_name="predict: {input} by {model}", persist_result=False)
@_with_parameters
def predict(options: PredictOptions) -> JobResult:
    """Predict the labels of a table's texts with a published student."""
    job = Job.of(options, find(options.model, options.root, merged=options.weights == "merged"))
    runner = options.runner or "threads"
    threads = options.threads
    if threads is None and runner != "threads":
        threads = max(1, (os.cpu_count() or 1) // options.workers)
    device = Device(options.device, threads)
    with locked(job, overwrite=options.overwrite, restart=options.restart) as rows:
        on = answer_shards.with_options(task_runner=_task_runner(runner, options.workers, options.address))
        answered = on(list(shards(job, rows, options.base_model, device)))
        found = assemble(job, rows - answered)
    text = (
        f"{found.rows:,} rows in {code(found.output)}, {found.reused:,} of them answered before; "
        f"{found.errors:,} with an error, {found.cut:,} with a text that was truncated to fit."
    )
    if found.overflow:
        text += f" {found.overflow:,} have content in unnamed columns, which was ignored."
    log.info("%s", text)
    with Failures().optional(Part.ARTIFACT, "predictions"):
        create_markdown_artifact(key="predictions", markdown=text, description="Predictions")
    if options.fail_on_error:
        found.check(fail_on_error=True)
    return found


@flow(name="predict-shards", flow_run_name="shards", persist_result=False, validate_parameters=False)
def answer_shards(these: list[Shard]) -> int:
    """Answer every shard and return how many rows that were. Raises what the first that failed raised."""
    try:
        futures = [answer.submit(shard) for shard in these]
        wait(futures)
        return sum(future.result() for future in futures)
    finally:
        _student.cache_clear()


@task(name="answer", task_run_name="shard {shard.number}", cache_policy=NO_CACHE, **RETRIES)
def answer(shard: Shard) -> int:
    """Answer what is not answered yet of a shard, and return how many rows that were."""

    def opened() -> LoadedModel:
        # By the digest of the bundle's list of files: a cluster's worker outlives a job, and another bundle
        # may then be in the same folder.
        digest = jsonio.file_digest(shard.job.folder / FILE)
        return _student(shard.job.folder, digest, shard.job.weights, shard.base, shard.device)

    progress = ArtifactProgress(f"shard {shard.number}")
    return jobs.answer(shard.job, shard.parts, shard.rows, opened, progress)


@lru_cache(maxsize=1)
def _student(folder: Path, digest: str, weights: Weights, base: str | None, device: Device) -> LoadedModel:
    """The model, once a process; shards that come to it at the same time wait for each other."""
    return open_model(folder, weights, base, device)


def _task_runner(runner: Runner, workers: int, address: str | None) -> Any:
    if runner == "threads":
        # One model answers one caller at a time, and a local one uses all cores for it.
        return ThreadPoolTaskRunner(max_workers=1)
    try:
        if runner == "dask":
            from prefect_dask import DaskTaskRunner

            local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
            return DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=local)
        from prefect_ray import RayTaskRunner

        local = {"num_cpus": workers, "include_dashboard": False}
        return RayTaskRunner(address=address) if address else RayTaskRunner(init_kwargs=local)
    except ImportError as e:
        remedy = f"pip install 'understudy-distill[{runner}]'"
        raise UserError(f"runner {runner} is not installed ({e}): {remedy}") from e
