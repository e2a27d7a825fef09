"""The stage `split`: reads the texts, writes three CSV files and what became of every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import jsonio
from core.config import Config
from core.config.base import Section
from core.config.data import DataConfig
from core.data import locate, splitting
from core.data.cleaning import clean
from core.data.reading import read
from core.data.summary import FILE, notices, summarize
from core.data.writing import write_examples
from core.records import SPLITS
from core.stage import StageIO, stage

if TYPE_CHECKING:
    from core.pipeline.context import RunContext


class SplitSettings(Section):
    """What the splits depend on."""

    seed: int
    """Decides which rows a made split or a limit takes."""
    data: DataConfig
    """The config's `data:`."""

    @classmethod
    def of(cls, config: Config) -> SplitSettings:
        """The part of the config that decides the split."""
        return cls(seed=config.seed, data=config.data)


def content(settings: SplitSettings, context: RunContext | None = None) -> dict[str, str]:
    """Digests of the files that the config names, by config key."""
    return locate.content(settings.data)


@stage(
    "split",
    version=2,
    content=content,
    publishes={**{f"{name}.csv": f"data_splits/{name}.csv" for name in SPLITS}, FILE: FILE},
)
def split(settings: SplitSettings, io: StageIO) -> dict[str, Any]:
    """Write train.csv, val.csv, test.csv and split_summary.json, and return counts and notices.

    Raises DataError for data that cannot be used as it is.
    """
    config = settings.data
    readings = read(config)
    cleaned = clean(readings.rows, config)
    parts = splitting.split(cleaned, config, settings.seed, io.progress)
    summary = summarize(readings, cleaned, parts, config, settings.seed, locate.table_files(config))
    summary["notices"] = notices(summary)
    for name in SPLITS:
        write_examples(io.out / f"{name}.csv", (row.example for row in parts.used[name]))
    jsonio.write_json(io.out / FILE, summary)
    labels = {name: summary["used_split_summary"][name]["label_counts"] for name in SPLITS}
    return {"counts": summary["counts"], "labels": labels, "notices": summary["notices"]}
