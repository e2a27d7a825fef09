"""What asking a live teacher will take, for the plan: by split, and in all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from core.completions.journal import Journal
from core.config import Config
from core.data.writing import scan_examples
from core.records import SplitName
from core.store.manifest import Manifest
from core.store.objects import Store
from core.teacher.forecast import Taken, describe, forecast, in_all
from core.teacher.live import LiveTeacher
from core.teacher.stage import SampleSettings, open_teacher


def prices(config: Config, store: Store, parts: Manifest, journal: Journal) -> Iterator[str]:
    """Lines for people, of what the journal lacks of each split that the teacher answers.

    `parts` is the split, and the teacher is a live one. What the answers to one split took is expected of
    the next, too.
    """
    splits: tuple[SplitName, ...] = ("train", *config.teacher.label_splits)
    taken, found = Taken(config.teacher.endpoint), []
    for name in splits:
        teacher = open_teacher(SampleSettings.of(config, name), lambda: contextlib.nullcontext(journal))
        assert isinstance(teacher, LiveTeacher)
        rows = scan_examples(store.file(parts, f"{name}.csv"))
        each, counter = forecast(teacher, rows, journal, taken)
        about = f" about {name}" if len(splits) > 1 else ""
        yield from describe(each, counter, f"{teacher.model}{about}")
        found.append(each)
    if len(splits) > 1:
        yield in_all(found)
