"""What became of every row: `split_summary.json`, and the sentences people should see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from core import jsonio
from core.config.data import DataConfig
from core.data import sources
from core.data.cleaning import Cleaned
from core.data.locate import Table
from core.data.reading import Readings, Row
from core.data.splitting import Split, Splits, label_counts, shared_groups
from core.jsonio import Record
from core.records import SPLITS, SplitName

FILE = "split_summary.json"
_FINDINGS = {
    "duplicates": "stand more than once",
    "conflicts": "carry both labels",
    "leaks": "are shared between splits",
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
    """What is read of split_summary.json."""

    used_split_summary: dict[SplitName, SplitCounts]
    notices: tuple[str, ...]


def summarise(
    readings: Readings,
    cleaned: Cleaned,
    split: Split,
    config: DataConfig,
    seed: int,
    tables: Sequence[Table],
) -> dict[str, Any]:
    """All counts as one JSON value; the first ten keys are the predecessor's."""
    counts = {name: len(split.used[name]) for name in SPLITS}
    return {
        "dataset_name": config.name,
        "source_dir": _source_dir(config),
        "resolved_split_paths": _split_paths(tables),
        "seed": seed,
        "counts": {**counts, "total": sum(counts.values())},
        "subset_limits": {name: getattr(config, f"max_{name}_examples") for name in SPLITS},
        "source_split_summary": _by_split(split.whole),
        "used_split_summary": _by_split(split.used),
        "split": split.how,
        "sources": {table.key: sources.place(table.url) for table in tables},
        "rows_read": readings.seen,
        "rows_left_out": readings.left_out,
        "rows_not_needed": split.not_needed,
        "bad_rows": {"count": len(readings.bad), "rows": [jsonio.as_row(bad) for bad in readings.bad]},
        "overflow_columns": {
            "rows_read": readings.overflow,
            "texts_used": len(_overflowing_texts(split.used)),
        },
        "duplicates": cleaned.duplicates.as_json(),
        "conflicts": cleaned.conflicts.as_json(),
        "leaks": {**cleaned.leaks.as_json(), "shared_texts": cleaned.shared},
        "near_duplicates": _near_duplicates(split, config),
        "groups": _groups(split.used),
    }


def notices(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for everything that was left out, dropped or kept against expectation."""
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
    out += [sentence for key, what in _FINDINGS.items() if (sentence := _found(summary[key], what))]
    for giant in (summary["near_duplicates"] or {}).get("giants", []):
        out.append(
            f"a {giant['kind']} of {giant['rows']} rows ({giant['share']:.1%}) stays in one split; "
            f"one of them is {giant['example_id']}"
        )
    for name in ("val", "test"):
        labels = summary["used_split_summary"][name]["label_counts"]
        if not all(labels.values()):
            out.append(f"{name} holds one class only, so that most metrics are undefined on it")
    shared = {pair: n for pair, n in summary["groups"]["shared"].items() if n}
    if shared:
        out.append(
            f"groups are shared between given splits: {', '.join(f'{p} {n}' for p, n in shared.items())}"
        )
    return out


def _found(finding: Mapping[str, Any], what: str) -> str:
    if not finding["texts"]:
        return ""
    dropped = f"rows dropped: {finding['dropped_rows']}" if finding["action"] == "drop" else "all were kept"
    return f"texts that {what}: {finding['texts']}; {dropped}"


def _source_dir(config: DataConfig) -> str:
    if config.dir is not None:
        return sources.place(config.dir)
    url = config.path or (config.files.train if config.files else "")
    return sources.place(url).rpartition("/")[0]


def _split_paths(tables: Sequence[Table]) -> dict[str, str]:
    whole = sources.place(tables[0].url)
    paths = {table.split: sources.place(table.url) for table in tables}
    return {name: paths.get(name, whole) for name in SPLITS}


def _by_split(splits: Splits) -> dict[str, Any]:
    return {name: _distribution(splits[name]) for name in SPLITS}


def _distribution(rows: Sequence[Row]) -> dict[str, Any]:
    counts = label_counts(rows)
    shares = {label: n / len(rows) if rows else None for label, n in counts.items()}
    return {"count": len(rows), "label_counts": counts, "label_distribution": shares}


def _overflowing_texts(splits: Splits) -> set[str]:
    return {row.example.id for rows in splits.values() for row in rows if row.overflow}


def _near_duplicates(split: Split, config: DataConfig) -> dict[str, Any] | None:
    if split.units is None:
        return None
    units, near = split.units, config.near_duplicates
    return {
        "searched": near.enabled,
        "threshold": near.threshold,
        "shingle": near.shingle,
        "families": units.families,
        "rows_in_families": units.rows_in_families,
        "units_of_several_rows": units.several,
        "giants": [giant.as_json() for giant in units.giants],
    }


def _groups(splits: Splits) -> dict[str, Any]:
    groups = {r.example.group for rows in splits.values() for r in rows if r.example.group is not None}
    return {"count": len(groups), "shared": shared_groups(splits)}
