"""The stage `split`: texts in, three CSV files and what became of every row out."""

from __future__ import annotations

from typing import Any

from core import jsonio
from core.config.base import Section
from core.config.data import DataConfig
from core.data import locate
from core.data.cleaning import clean
from core.data.reading import read
from core.data.splitting import split
from core.data.summary import notices, summarise
from core.data.writing import write_examples
from core.records import SPLITS
from core.stageio import StageIO

NAME = "split"
VERSION = 2


class SplitSlice(Section):
    """What the splits depend on."""

    seed: int
    """Decides which rows a made split or a limit takes."""
    data: DataConfig
    """The config's `data:`."""


def content(slice: SplitSlice) -> dict[str, str]:
    """What the files that the config names hold, by config key, for this stage's cache key."""
    return locate.content(slice.data)


def run(slice: SplitSlice, io: StageIO) -> dict[str, Any]:
    """Write train.csv, val.csv, test.csv and split_summary.json, and return counts and notices.

    Raises DataError for data that cannot be used as it is.
    """
    config = slice.data
    readings = read(config)
    cleaned = clean(readings.rows, config)
    parts = split(cleaned, config, slice.seed, io.progress)
    summary = summarise(readings, cleaned, parts, config, slice.seed, locate.tables(config))
    summary["notices"] = notices(summary)
    for name in SPLITS:
        write_examples(io.out / f"{name}.csv", (row.example for row in parts.used[name]))
    jsonio.write_json(io.out / "split_summary.json", summary)
    labels = {name: summary["used_split_summary"][name]["label_counts"] for name in SPLITS}
    return {"counts": summary["counts"], "labels": labels, "notices": summary["notices"]}
