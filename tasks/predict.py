"""A shard of texts answered, as a Prefect task."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from core import jsonio
from core.bundle import Weights
from core.bundle.opening import FILE
from core.engines.base import Device
from core.predict import job
from core.predict.job import Shard
from core.predict.student import Student, open_student
from tasks.progress import ArtifactProgress
from tasks.stages import RETRIES


@task(name="answer", task_run_name="shard {shard.number}", cache_policy=NO_CACHE, **RETRIES)
def answer(shard: Shard) -> int:
    """Answer what is not answered yet of a shard, and return how many rows that were."""

    def opened() -> Student:
        digest = jsonio.file_digest(shard.job.folder / FILE)
        return student(shard.job.folder, digest, shard.job.weights, shard.base, shard.device)

    progress = ArtifactProgress(f"shard {shard.number}")
    return job.answer(shard.job, shard.parts, shard.rows, opened, progress)


@lru_cache(maxsize=1)
def student(folder: Path, digest: str, weights: Weights, base: str | None, device: Device) -> Student:
    """The model, once a process; shards that come to it at the same time wait for each other.

    `digest` is that of the bundle's list of files: a cluster's worker outlives a job, and another bundle
    may then be in the same folder.
    """
    return open_student(folder, weights, base, device)
