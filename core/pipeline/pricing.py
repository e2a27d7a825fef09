"""What asking a live teacher will take, for the plan: by split, and in all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from core.completions.journal import Journal
from core.data.writing import scan_examples
from core.pipeline.stages import Pipeline
from core.records import SplitName
from core.store.manifest import Manifest
from core.store.objects import Store
from core.teacher.forecast import Taken, describe, forecast, in_all


def prices(pipeline: Pipeline, store: Store, parts: Manifest, journal: Journal) -> Iterator[str]:
    """Lines for people, of what the journal lacks of each split that the teacher answers.

    `parts` is the split. What the answers to one split took is expected of the next, too. Nothing where
    the teacher is no live one.
    """
    splits: tuple[SplitName, ...] = ("train", *pipeline.config.teacher.label_splits)
    taken, found = Taken(pipeline.config.teacher.endpoint), []
    for name in splits:
        teacher = pipeline.live_teacher(lambda: contextlib.nullcontext(journal), name)
        if teacher is None:
            return
        rows = scan_examples(store.file(parts, f"{name}.csv"))
        each, counter = forecast(teacher, rows, journal, taken)
        about = f" about {name}" if len(splits) > 1 else ""
        yield from describe(each, counter, f"{teacher.model}{about}")
        found.append(each)
    if len(splits) > 1:
        yield in_all(found)
