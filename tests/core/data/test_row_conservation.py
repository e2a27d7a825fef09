"""Every row is used or reported, whatever is wrong with some of them."""

from __future__ import annotations

import fsspec
from hypothesis import given

from core.config import DataConfig
from core.data.labeled_rows import FileReadings, read
from tests.row_files import RowFile, row_files


def readings_of(file: RowFile) -> FileReadings:
    """What training reads from a file."""
    fsspec.filesystem("memory").pipe_file(f"/conservation/data.{file.kind}", file.data)
    path = f"memory://conservation/data.{file.kind}"
    return read(DataConfig(path=path, id_column="id", encoding=file.encoding, max_bad_rows=10**6))


@given(row_files(["csv", "tsv", "jsonl", "parquet"]))
def test_every_row_is_used_or_reported(file: RowFile) -> None:
    found = readings_of(file)
    assert len(found.rows) + len(found.bad) == found.seen == len(file.rows)
    used = {row.example.id: (row.example.text, row.example.label) for row in found.rows}
    for row in file.rows:
        if row.sound:
            assert used[row.id] == (row.text, int(row.label))
    assert len({(bad.file, bad.line) for bad in found.bad}) == len(found.bad)
    assert all(bad.reason for bad in found.bad)
