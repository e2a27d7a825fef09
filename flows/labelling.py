"""The teacher's answers: to train, which the student learns from, and to splits it is measured on."""

from __future__ import annotations

from functools import partial

from core.optional import Part
from core.pipeline.views import View
from core.records import SplitName
from core.store.manifest import Manifest
from flows.execution import Execution


def answered(run: Execution, view: View, parts: Manifest) -> Manifest:
    """The answers to train."""
    file = "teacher_phase/teacher_samples.jsonl"
    answers = run.do("sample", lambda: run.pipeline.sample(parts), file)
    view.sample(answers)
    return answers


def labelled(run: Execution, view: View, parts: Manifest) -> dict[SplitName, Manifest]:
    """The answers to each split that teacher.label_splits names; one that fails is recorded and left out."""
    found: dict[SplitName, Manifest] = {}
    for name in run.config.teacher.label_splits:
        build = partial(run.pipeline.sample, parts, name)
        with run.optional(Part.TEACHER, name):
            found[name] = run.do(f"sample/{name}", build, f"teacher_phase/teacher_samples_{name}.jsonl")
            view.sample(found[name], name)
    return found
