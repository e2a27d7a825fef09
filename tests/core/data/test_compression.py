"""Compressed tables: every format is read in full, and a damaged file is refused by name."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from core.config import DataConfig
from core.data import sources
from core.data.compression import COMPRESSIONS, compression_of_content
from core.data.labeled_rows import content, table_files
from core.errors import DataError

TEXT = b"text,label\n" + b"".join(b"text %d,%d\n" % (i, i % 2) for i in range(5000))


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
    "zip": lambda data: zipped({"reviews.csv": data}),
}


def read(url: Path) -> bytes:
    with sources.opened(str(url)) as file:
        return file.read()


def test_every_compression_is_tested() -> None:
    assert [each.ending for each in COMPRESSIONS] == [
        f".{ending}" for ending in ("gz", "bz2", "xz", "zst", "zip")
    ]
    assert {each.ending[1:] for each in COMPRESSIONS} == set(WRITERS)


@pytest.mark.parametrize("ending", WRITERS)
def test_a_compressed_table_is_read_by_the_ending_of_its_name(tmp_path: Path, ending: str) -> None:
    packed = WRITERS[ending](TEXT)
    table = tmp_path / f"data.CSV.{ending}"
    table.write_bytes(packed)
    assert read(table) == TEXT
    found = compression_of_content(packed[:64])
    assert found is not None
    assert found.ending == f".{ending}"
    config = DataConfig(path=str(table))
    assert table_files(config)[0].format == "csv"
    assert content(config) == {"data.path": f"csv+{ending}:{hashlib.sha256(packed).hexdigest()}"}


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_files_that_were_joined_are_read_to_the_end(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"data.csv.{ending}").write_bytes(WRITERS[ending](TEXT) + WRITERS[ending](b"last,1\n"))
    assert read(tmp_path / f"data.csv.{ending}") == TEXT + b"last,1\n"


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, ending: str, damage: str) -> None:
    packed = {"cut": WRITERS[ending](TEXT)[:-200], "other": TEXT, "empty": b""}[damage]
    table = tmp_path / f"data.csv.{ending}"
    table.write_bytes(packed)
    if (damage, ending) == ("empty", "gz"):  # as gzip itself reads it
        assert read(table) == b""
        return
    with pytest.raises(DataError, match=rf"{table} ends in \.{ending} but is not a whole"):
        read(table)


def test_an_archive_may_hold_folders_and_the_notes_of_macos(tmp_path: Path) -> None:
    archive = tmp_path / "data.csv.zip"
    archive.write_bytes(zipped({"in/": b"", "in/data.csv": TEXT, "__MACOSX/in/._data.csv": b"x"}))
    assert read(archive) == TEXT


@pytest.mark.parametrize(
    ("members", "what"),
    [({}, r"holds 0 files \(none\)"), ({"a.csv": b"", "b.csv": b""}, r"holds 2 files \(a.csv, b.csv\)")],
)
def test_an_archive_without_exactly_one_file_is_refused(
    tmp_path: Path, members: dict[str, bytes], what: str
) -> None:
    archive = tmp_path / "data.csv.zip"
    archive.write_bytes(zipped(members))
    with pytest.raises(DataError, match=rf"{archive} {what}"):
        read(archive)


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    packed = bytearray(zipped({"data.csv": TEXT}))
    packed[6] |= 1  # in the file's own header
    packed[packed.index(b"PK\x01\x02") + 8] |= 1  # and in the list of all
    (tmp_path / "data.csv.zip").write_bytes(packed)
    with pytest.raises(DataError, match=r"data.csv.zip is encrypted"):
        read(tmp_path / "data.csv.zip")


def test_an_error_of_the_disk_is_not_taken_for_damage(tmp_path: Path) -> None:
    (tmp_path / "data.csv.bz2").write_bytes(bz2.compress(TEXT))
    with pytest.raises(OSError, match="disk") as e, sources.opened(str(tmp_path / "data.csv.bz2")):
        raise OSError(5, "disk")
    assert not isinstance(e.value, DataError)


def test_a_text_may_begin_with_the_letters_of_a_signature() -> None:
    assert compression_of_content(b"BZh is an abbreviation") is None
    assert compression_of_content(b"text,label") is None
