"""Which files a config names, how they are written, and the digests of what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.config.data import DataConfig
from core.data import sources
from core.errors import DataError
from core.records import SPLITS, SplitName

Format = Literal["csv", "tsv", "jsonl", "parquet"]
ALIASES: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
FORMATS: dict[str, Format] = {
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One file to read. `split` is set where the whole file is one split; `key` is its config key."""

    url: str
    format: Format
    key: str
    split: SplitName | None = None


def tables(config: DataConfig) -> list[Table]:
    """The tables the config names, found. Raises DataError for what is missing, all at once."""
    if config.path is not None:
        return [Table(config.path, file_format(config.path, config), "data.path")]
    if config.files is not None:
        urls = {s: getattr(config.files, s) for s in SPLITS}
        return [Table(u, file_format(u, config), f"data.files.{s}", s) for s, u in urls.items()]
    found = _in_folder(config.dir or "", config)
    return [Table(u, file_format(u, config), f"data.dir.{s}", s) for s, u in found.items()]


def content(config: DataConfig) -> dict[str, str]:
    """What the config's paths hold, by config key, for a cache key: sha256 and format of each file.

    The format stands beside the digest because a file's ending may decide it, and paths are in no key.
    """
    found: dict[str, str] = {}
    for table in tables(config):
        packed = "+gz" if table.url.lower().endswith(".gz") else ""
        found[table.key] = f"{table.format}{packed}:{sources.digest(table.url)}"
    if config.split_file is not None:
        ending = config.split_file.lower().removesuffix(".gz").rpartition(".")[2]
        found["data.split_file"] = f"{ending}:{sources.digest(config.split_file)}"
    return found


def file_format(url: str, config: DataConfig) -> Format:
    """The config's format or, by default, the one the file's ending says. Raises DataError."""
    if config.format != "auto":
        return config.format
    name = url.lower().removesuffix(".gz")
    try:
        return FORMATS[name.rpartition(".")[2]]
    except KeyError:
        raise DataError(
            f"{sources.place(url)}: the ending does not say how the file is written; "
            f"set data.format to csv, tsv, jsonl or parquet"
        ) from None


def _in_folder(folder: str, config: DataConfig) -> dict[SplitName, str]:
    tried = {split: _candidates(folder, config, split) for split in SPLITS}
    found = {split: next((u for u in urls if sources.exists(u)), None) for split, urls in tried.items()}
    lacking = [split for split in SPLITS if found[split] is None]
    if lacking:
        lines = [f"\n  {split}: {', '.join(map(sources.place, tried[split]))}" for split in lacking]
        raise DataError(
            f"{sources.place(folder)} lacks the split{'s' if len(lacking) > 1 else ''} "
            f"{', '.join(lacking)}; put a file there, or set data.dir and data.name; tried:{''.join(lines)}"
        )
    return {split: url for split, url in found.items() if url is not None}


def _candidates(folder: str, config: DataConfig, split: SplitName) -> list[str]:
    ending = "csv" if config.format == "auto" else config.format
    name = config.name
    urls: list[str] = []
    for alias in (a for a, s in ALIASES.items() if s == split):
        layouts = (f"{name}/{name}_{alias}", f"{name}/{alias}", f"{name}_{alias}", alias)
        urls += [sources.join(folder, f"{layout}.{ending}") for layout in layouts]
    return urls
