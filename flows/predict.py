"""Answering a table of texts as a flow: shards as tasks, on threads, Dask or Ray."""

from __future__ import annotations

import logging
import os
from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from core.bundle.opening import Device, Weights, read_contents
from core.errors import UserError
from core.optional import Failures, Part
from core.predict.finding import find
from core.predict.job import Job, Outcome, assemble, held
from core.predict.shards import Shard, shards
from core.predict.sink import OutputFormat
from core.predict.sink import output_format as format_of
from core.predict.source import InputFormat, Source, text_columns
from core.report.markdown import code
from tasks.predict import answer, student

log = logging.getLogger(__name__)

Runner = Literal["threads", "dask", "ray"]


@flow(name="predict", flow_run_name="predict: {input} by {model}", persist_result=False)
def predict(
    input: str,
    output: str,
    model: str = "latest",
    root: str = "artifacts",
    format: InputFormat = "auto",
    output_format: OutputFormat | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    encoding: str = "utf-8",
    separator: str | None = None,
    quotes: bool = True,
    reasoning: bool = False,
    weights: Weights = "adapter",
    base_model: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    runner: Runner = "threads",
    workers: int = 1,
    address: str | None = None,
    overwrite: bool = False,
    restart: bool = False,
    fail_on_error: bool = False,
) -> Outcome:
    """Answer the texts of a table with a published student.

    Args:
        input: The table, a path or URL.
        output: Where the answers go, a path or URL that ends in .csv, .jsonl or .parquet.
        model: latest, a run's name, or a bundle's folder or URL.
        root: Where published runs are.
        format: How the input is written; auto goes by its ending.
        output_format: How the output is written; by default what its ending says.
        text_column: The column of the text; by default that of the training data, or else text.
        id_column: The column of the id; by default the id is a hash of the text.
        encoding: Of the input's text.
        separator: Of CSV columns; by default a comma, of TSV a tab.
        quotes: Whether double quotes enclose fields.
        reasoning: Write the reasoning and the rules it cites; far slower.
        weights: The adapter over its base model, the bundle's merged weights, or the training server's own.
        base_model: Where the base model is, if not where it was in training.
        device: auto, cpu or cuda.
        threads: CPU threads of each process; by default the cores shared among the workers.
        runner: threads answers in this process; dask and ray in others.
        workers: Processes of dask or ray on this machine, each with a model of its own.
        address: A Dask or Ray cluster instead; its workers have to see the bundle's and the output's folder.
        overwrite: Replace the output if it is there.
        restart: Throw away what an unfinished job left beside the output.
        fail_on_error: Fail if any row has an error; the output is written all the same.
    """
    folder = find(model, root, merged=weights == "merged")
    first, second = text_columns(text_column, read_contents(folder).columns["text"])
    source = Source(input, format, first, id_column, encoding, separator, quotes, second).resolved()
    job = Job(folder, source, output, format_of(output, output_format), reasoning, weights)
    where = Device(device, threads or (_share(workers) if runner != "threads" else None))
    with held(job, overwrite=overwrite, restart=restart) as rows:
        on = answer_shards.with_options(task_runner=_task_runner(runner, workers, address))
        answered = on(list(shards(job, rows, base_model, where)))
        found = assemble(job, rows - answered)
    _show(found)
    if fail_on_error:
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
        student.cache_clear()


def _share(workers: int) -> int:
    return max(1, (os.cpu_count() or 1) // workers)


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


def _show(found: Outcome) -> None:
    said = (
        f"{found.rows:,} rows in {code(found.output)}, {found.reused:,} of them answered before; "
        f"{found.errors:,} with an error, of {found.cut:,} the text was cut to fit."
    )
    if found.overflow:
        said += f" {found.overflow:,} have content in unnamed columns, which was ignored."
    log.info("%s", said)
    with Failures().optional(Part.ARTIFACT, "predictions"):
        create_markdown_artifact(key="predictions", markdown=said, description="Predictions")
