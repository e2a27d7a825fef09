"""A stage, and a pipeline that calls it after the split."""

from __future__ import annotations

from typing import Any

from core import jsonio
from core.config import ConfigSection
from core.data.stage import SplitSettings, split
from core.pipeline.runners import Runner
from core.records import read_examples
from core.stage import StageIO
from core.store import Manifest
from understudy import register_stage


class LengthSettings(ConfigSection):
    """What is counted."""

    unit: str = "words"
    """words or characters."""


@register_stage(
    "lengths", version=1, inputs=("split",), publishes={"lengths.json": "lengths.json"}, switch=None
)
def lengths(settings: LengthSettings, io: StageIO) -> dict[str, Any]:
    """Write how long the training texts are."""
    texts = [example.text for example in read_examples(io.input("split") / "train.csv")]
    counted = [len(text.split()) if settings.unit == "words" else len(text) for text in texts]
    jsonio.write_json(io.out / "lengths.json", {"longest": max(counted)})
    return {"texts": len(texts)}


def count_lengths(run: Runner, unit: str) -> Manifest:
    """Split the data, then count."""
    return run.stage(lengths, LengthSettings(unit=unit), split=run.stage(split, SplitSettings.of(run.config)))
