"""The stage `split`: reads the texts, writes three CSV files and split_summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pydantic import Field

from core import jsonio
from core.config import Config, ConfigSection, DataConfig
from core.data import labeled_rows, sources, splitting
from core.data.duplicates import Cleaned, clean
from core.data.labeled_rows import FileReadings, TableFile, read, table_files
from core.data.splitting import Split, Splits, label_counts
from core.jsonio import Record, as_row
from core.records import SPLITS, SplitName, write_examples
from core.stage import StageIO, stage

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

FILE = "split_summary.json"
# The notices are part of the stage's output: other words would give it another digest.
_FINDINGS = {
    "duplicates": "that stand more than once",
    "conflicts": "that carry both labels",
    "leaks": "that are shared between splits",
}


class LabelCounts(Record):
    """Rows by label."""

    negative: int = Field(alias="0")
    positive: int = Field(alias="1")


class SplitCounts(Record):
    """The rows of one split."""

    count: int
    label_counts: LabelCounts


class SplitSummary(Record):
    """The part of split_summary.json that other stages and reports read."""

    used_split_summary: dict[SplitName, SplitCounts]
    notices: tuple[str, ...]


class SplitSettings(ConfigSection):
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
    return labeled_rows.content(settings.data)


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
    summary = summarize(readings, cleaned, parts, config, settings.seed, table_files(config))
    summary["notices"] = notices(summary)
    for name in SPLITS:
        write_examples(io.out / f"{name}.csv", (row.example for row in parts.used[name]))
    jsonio.write_json(io.out / FILE, summary)
    labels = {name: summary["used_split_summary"][name]["label_counts"] for name in SPLITS}
    return {"counts": summary["counts"], "labels": labels, "notices": summary["notices"]}


def summarize(
    readings: FileReadings,
    cleaned: Cleaned,
    split: Split,
    config: DataConfig,
    seed: int,
    files: Sequence[TableFile],
) -> dict[str, Any]:
    """All counts as one JSON value; the first ten keys are the predecessor's."""
    counts = {name: len(split.used[name]) for name in SPLITS}
    used = [row for rows in split.used.values() for row in rows]
    groups = {name: {row.example.group for row in rows} - {None} for name, rows in split.used.items()}
    shared = {f"{a}+{b}": len(groups[a] & groups[b]) for a, b in combinations(groups, 2)}
    near, units = config.near_duplicates, split.units
    near_duplicates = None
    if units is not None:
        near_duplicates = {
            "searched": near.enabled,
            "threshold": near.threshold,
            "shingle": near.shingle,
            "families": units.families,
            "rows_in_families": units.rows_in_families,
            "units_of_several_rows": units.several,
            "giants": [as_row(giant) for giant in units.giants],
        }
    first = sources.place(files[0].url)
    places = {file.split: sources.place(file.url) for file in files}
    return {
        "dataset_name": config.name,
        "source_dir": sources.place(config.dir) if config.dir is not None else first.rpartition("/")[0],
        "resolved_split_paths": {name: places.get(name, first) for name in SPLITS},
        "seed": seed,
        "counts": {**counts, "total": sum(counts.values())},
        "subset_limits": {name: getattr(config, f"max_{name}_examples") for name in SPLITS},
        "source_split_summary": _by_split(split.whole),
        "used_split_summary": _by_split(split.used),
        "split": split.how,
        "sources": {file.key: sources.place(file.url) for file in files},
        "rows_read": readings.seen,
        "rows_left_out": readings.left_out,
        "rows_not_needed": split.not_needed,
        "bad_rows": {"count": len(readings.bad), "rows": [as_row(bad) for bad in readings.bad]},
        "overflow_columns": {
            "rows_read": readings.overflow,
            "texts_used": len({row.example.id for row in used if row.overflow}),
        },
        "duplicates": as_row(cleaned.duplicates),
        "conflicts": as_row(cleaned.conflicts),
        "leaks": {**as_row(cleaned.leaks), "shared_texts": cleaned.shared},
        "near_duplicates": near_duplicates,
        "groups": {"count": len(set().union(*groups.values())), "shared": shared},
    }


def notices(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for everything that was left out, dropped, or kept against expectation."""
    out: list[str] = []
    bad, overflow = summary["bad_rows"], summary["overflow_columns"]["rows_read"]
    if summary["rows_left_out"]:
        out.append(f"rows left out, since no split names them: {summary['rows_left_out']}")
    if summary["rows_not_needed"]:
        out.append(f"rows left over by data.sizes: {summary['rows_not_needed']}")
    if bad["count"]:
        first = bad["rows"][0]
        where = f"{first['file']}:{first['line']}: {first['reason']}"
        out.append(f"bad rows skipped: {bad['count']}, the first at {where}")
    if overflow:
        out.append(f"rows that hold something past the named columns, which was ignored: {overflow}")
    for key, what in _FINDINGS.items():
        found = summary[key]
        if found["texts"]:
            dropped = found["action"] == "drop"
            done = f"rows dropped: {found['dropped_rows']}" if dropped else "all were kept"
            out.append(f"texts {what}: {found['texts']}; {done}")
    for giant in (summary["near_duplicates"] or {}).get("giants", []):
        out.append(
            f"a {giant['kind']} of {giant['rows']} rows ({giant['share']:.1%}) stays in one split; "
            f"one of them is {giant['example_id']}"
        )
    for name in ("val", "test"):
        if not all(summary["used_split_summary"][name]["label_counts"].values()):
            out.append(f"{name} holds one class only, so that most metrics are undefined on it")
    shared = {pair: n for pair, n in summary["groups"]["shared"].items() if n}
    if shared:
        pairs = ", ".join(f"{pair} {n}" for pair, n in shared.items())
        out.append(f"groups are shared between given splits: {pairs}")
    return out


def _by_split(splits: Splits) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in SPLITS:
        n, counts = len(splits[name]), label_counts(splits[name])
        shares = {label: count / n if n else None for label, count in counts.items()}
        out[name] = {"count": n, "label_counts": counts, "label_distribution": shares}
    return out
