"""Reading and splitting 200,000 Korean texts: seconds and memory, near-duplicates timed apart."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from core.config import DataConfig, NearDuplicates
from core.data.duplicates import clean, families
from core.data.labeled_rows import read, table_files
from core.data.splitting import Split, split
from core.data.stage import summarize
from core.records import SPLITS, write_examples

T = TypeVar("T")
DATA = Path(os.environ.get("UNDERSTUDY_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SECONDS, MEGABYTES = 10.0, 600.0


def main() -> None:
    """Print a table; the goals are 10 s and 600 MB above the imports, without near-duplicates."""
    path = DATA / "nsmc_200k" / "data.csv.gz"
    if not path.is_file():
        print(f"bench_data: skipped, no {path}; set UNDERSTUDY_TEST_DATA")
        return
    start = _peak()
    config = DataConfig(path=str(path), id_column="id", near_duplicates=NearDuplicates(enabled=False))
    took: dict[str, tuple[float, float]] = {}
    readings = _timed(took, "read", lambda: read(config))
    cleaned = _timed(took, "clean", lambda: clean(readings.rows, config))
    made = _timed(took, "split", lambda: split(cleaned, config, 42))
    _timed(took, "summarize", lambda: summarize(readings, cleaned, made, config, 42, table_files(config)))
    with tempfile.TemporaryDirectory() as folder:
        _timed(took, "write", lambda: _write(made, Path(folder)))
    memory = _peak() - start
    wall, cpu = (sum(times) for times in zip(*took.values(), strict=True))
    texts = [row.example.text for row in cleaned.parts[None]]
    near = config.near_duplicates
    found = _timed(took, "near-duplicates", lambda: families(texts, near.threshold, near.shingle))
    took["all but the last"] = (wall, cpu)
    print(f"data: {path.parent.name}, {readings.seen} rows{'':<6}wall      CPU")
    for what, seconds in took.items():
        print(f"  {what:<20}{seconds[0]:8.2f} s{seconds[1]:8.2f} s")
    print(f"  goal {SECONDS:.0f} s wall; memory above the imports {memory:.0f} MB, goal {MEGABYTES:.0f} MB")
    print(f"  memory with near-duplicates {_peak() - start:.0f} MB")
    print(f"  {'families':<20}{len(texts) - len(set(found)):8d} texts joined to an earlier one")


def _timed(took: dict[str, tuple[float, float]], what: str, work: Callable[[], T]) -> T:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    took[what] = (time.perf_counter() - wall, time.process_time() - cpu)
    return result


def _write(made: Split, folder: Path) -> None:
    for name in SPLITS:
        write_examples(folder / f"{name}.csv", (row.example for row in made.used[name]))


def _peak() -> float:
    """Peak resident memory so far, in MB (ru_maxrss is kB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
