"""The texts that were hard for the teacher: how many, and how the student does on them."""

from __future__ import annotations

from collections.abc import Mapping

from core.optional import Part
from core.pipeline.scorers import Scorer
from core.records import SplitName
from core.store.manifest import Manifest
from flows.walking import Walk


def looked_into(
    run: Walk, parts: Manifest, kept: Manifest, labels: Mapping[SplitName, Manifest], student: Scorer
) -> dict[SplitName, Manifest]:
    """Of train, by the answers that `kept` came of, and of each split that the teacher labelled besides.

    Gold labels are hard for nobody. Each split is optional: one that fails is recorded and left out.
    """
    if run.config.teacher.kind == "gold":
        return {}
    answers: dict[SplitName, Manifest] = {"train": kept, **labels}
    found: dict[SplitName, Manifest] = {}
    for name, of in answers.items():
        with run.optional(Part.HARDNESS, name):
            stage = run.pipeline.measuring.hardness(parts, of, student, name)
            found[name] = run.do_built(stage, f"data_splits/{name}_with_hard_tag.csv")
    return found
