"""Every backend: complete files, conditional writes, and listings."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.store import Store
from core.store.backend import Content


def read(store: Store, path: str) -> Content:
    """The content of an existing file."""
    found = store.backend.read(path)
    assert found is not None
    return found


def test_a_missing_file_reads_as_none(store: Store) -> None:
    assert store.backend.read("a/b.json") is None
    assert store.backend.list("a") == []


def test_only_the_first_writer_creates_a_file(store: Store) -> None:
    assert store.backend.create("a/b.json", b"1")
    assert not store.backend.create("a/b.json", b"2")
    assert read(store, "a/b.json").data == b"1"


def test_a_swap_requires_the_version_that_was_read(store: Store) -> None:
    store.backend.create("a.json", b"1")
    version = read(store, "a.json").version
    assert store.backend.swap("a.json", b"2", version)
    assert not store.backend.swap("a.json", b"3", version)
    assert not store.backend.swap("none.json", b"3", version)
    assert read(store, "a.json").data == b"2"


def test_a_changed_file_is_not_discarded(store: Store) -> None:
    store.backend.create("a.json", b"1")
    version = read(store, "a.json").version
    store.backend.write("a.json", b"2")
    store.backend.discard("a.json", version)
    assert read(store, "a.json").data == b"2"
    store.backend.discard("a.json", read(store, "a.json").version)
    assert store.backend.read("a.json") is None


def test_a_listing_has_sizes_and_paths_under_the_root(store: Store) -> None:
    for path in ("o/a/1.txt", "o/a/sub/2.txt", "o/ab/3.txt", "o/a.txt"):
        store.backend.write(path, path.encode())
    found = store.backend.list("o/a")
    assert [(f.path, f.bytes) for f in found] == [("o/a/1.txt", 9), ("o/a/sub/2.txt", 13)]
    assert store.backend.list("o/a/") == found
    assert len(store.backend.list("o")) == 4
    assert [f.path for f in store.backend.list("")] == [f.path for f in store.backend.list("o")]


def test_removing_keeps_other_files(store: Store) -> None:
    for path in ("o/a/1.txt", "o/a/2.txt", "o/b/3.txt"):
        store.backend.write(path, b"x")
    store.backend.remove(["o/a/1.txt", "o/b/3.txt", "o/none.txt"])
    assert [f.path for f in store.backend.list("o")] == ["o/a/2.txt"]


def test_uploads_downloads_and_copies_are_complete(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    (tmp_path / "big").write_bytes(data)
    store.backend.upload(tmp_path / "big", "o/big")
    store.backend.copy("o/big", "p/big")
    store.backend.download("p/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        store.backend.download("o/none", tmp_path / "none")
