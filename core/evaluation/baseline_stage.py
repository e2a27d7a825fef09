"""The baseline stage: the classical baselines on the same rows as the student."""

from __future__ import annotations

from typing import Any

from core import jsonio
from core.config.base import Section
from core.data.writing import read_examples
from core.evaluation.classical import baselines
from core.records import SPLITS
from core.stageio import StageIO

NAME = "baseline"
VERSION = 4


class BaselineSlice(Section):
    """The baselines have no settings in the config: theirs are fixed, or chosen on val; see
    core.evaluation.classical."""

    seed: int


def run(config: BaselineSlice, io: StageIO) -> dict[str, Any]:
    """Fit on train, choose strengths on val, score all splits; returns the C of each that has one."""
    splits = {name: read_examples(io.inputs["split"] / f"{name}.csv") for name in SPLITS}
    found = baselines(splits["train"], splits)
    jsonio.write_json(io.out / "baselines.json", {b.name: b.to_json() for b in found})
    for b in found:
        for split, rows in b.scored.items():
            jsonio.write_jsonl(io.out / f"{b.name}_{split}.jsonl", map(jsonio.as_row, rows))
    return {b.name: b.settings["C"] for b in found if "C" in b.settings}
