"""The task of each stage that leaves an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import Task

from tasks.adapter import adapter
from tasks.analyse import analyse
from tasks.baseline import baseline
from tasks.bundle import bundle
from tasks.decide import decide
from tasks.encode import encode
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.export import export
from tasks.hardness import hardness
from tasks.policy import StageCall
from tasks.reinforce import reinforce
from tasks.reject import reject
from tasks.reward import reward
from tasks.sample import sample
from tasks.split import split
from tasks.train import train

StageTask = Task[[StageCall], dict[str, Any]]

TASKS: Mapping[str, StageTask] = {
    task.name: task
    for task in (
        split,
        sample,
        reject,
        encode,
        train,
        evaluate,
        export,
        baseline,
        decide,
        analyse,
        explain,
        adapter,
        bundle,
        reinforce,
        reward,
        hardness,
    )
}
