"""The files that a config names, their formats, and the digests of their content."""

from __future__ import annotations

from dataclasses import dataclass

from core.config.data import DataConfig
from core.data import sources
from core.data.tables import FORMATS, Format
from core.errors import DataError
from core.records import SPLITS, SplitName

ALIASES: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Splits by the names that data may have for them."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file to read; `key` is its config key, `split` is set if the whole file is one split."""

    url: str
    format: Format
    key: str
    split: SplitName | None = None


def table_files(config: DataConfig) -> list[TableFile]:
    """The tables that the config names, after a search in `data.dir`. Raises DataError for missing ones."""
    if config.path is not None:
        return [TableFile(config.path, _format(config.path, config), "data.path")]
    if config.files is not None:
        key, urls = "data.files", {split: getattr(config.files, split) for split in SPLITS}
    else:
        key, urls = "data.dir", _in_folder(config.dir or "", config)
    return [TableFile(url, _format(url, config), f"{key}.{split}", split) for split, url in urls.items()]


def content(config: DataConfig) -> dict[str, str]:
    """Format and sha256 of each file that the config names, by config key, for a cache key.

    The format is part of it because it may depend on the file's ending, and paths are in no key.
    """
    found: dict[str, str] = {}
    for table in table_files(config):
        packed = "+gz" if table.url.lower().endswith(".gz") else ""
        found[table.key] = f"{table.format}{packed}:{sources.digest(table.url)}"
    if config.split_file is not None:
        ending = config.split_file.lower().removesuffix(".gz").rpartition(".")[2]
        found["data.split_file"] = f"{ending}:{sources.digest(config.split_file)}"
    return found


def _format(url: str, config: DataConfig) -> Format:
    if config.format != "auto":
        return config.format
    ending = url.lower().removesuffix(".gz").rpartition(".")[2]
    if ending not in FORMATS:
        raise DataError(
            f"{sources.place(url)}: the ending does not identify the format; "
            f"set data.format to csv, tsv, jsonl or parquet"
        )
    return FORMATS[ending]


def _in_folder(folder: str, config: DataConfig) -> dict[SplitName, str]:
    """The file of each split, in the first of the layouts that `data.dir` documents."""
    ending, name = "csv" if config.format == "auto" else config.format, config.name
    tried: dict[SplitName, list[str]] = {split: [] for split in SPLITS}
    for alias, split in ALIASES.items():
        layouts = (f"{name}/{name}_{alias}", f"{name}/{alias}", f"{name}_{alias}", alias)
        tried[split] += [sources.join(folder, f"{layout}.{ending}") for layout in layouts]
    found = {split: next(filter(sources.exists, urls), None) for split, urls in tried.items()}
    lacking = [split for split in SPLITS if found[split] is None]
    if lacking:
        lines = [f"\n  {split}: {', '.join(map(sources.place, tried[split]))}" for split in lacking]
        raise DataError(
            f"{sources.place(folder)} lacks the split{'s' if len(lacking) > 1 else ''} "
            f"{', '.join(lacking)}; put a file there, or set data.dir and data.name; tried:{''.join(lines)}"
        )
    return {split: url for split, url in found.items() if url is not None}
