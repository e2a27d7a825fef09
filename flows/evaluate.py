"""The evaluate flow: any checkpoint of a run, measured and exported next to the run's own export."""

from __future__ import annotations

from prefect import flow

from core.pipeline import evaluate
from core.pipeline.opening import reopened
from flows.runtime import PrefectRunner


@flow(name="evaluate", persist_result=False)
def evaluate_checkpoint(run: str, root: str, checkpoint: str = "best") -> str:
    """Measure `checkpoint` (best, final, step_<n>, or the path of one of the run's adapters).

    Returns the folder with predictions and metrics. Nothing else of the run is changed, and nothing is
    published.
    """
    with reopened(root, run, PrefectRunner) as runner:
        return evaluate.evaluate_checkpoint(runner, checkpoint)
