"""Objects are complete or absent, verified before use, and adopted by the second writer."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.errors import StoreError, UserError
from core.store import Manifest, Store
from tests.core.store.making import made, paths


def elsewhere(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """The same root as on another machine, without copies."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "another-cache"))
    return Store.open(store.backend.url)


def test_a_committed_object_is_complete_with_row_counts(store: Store) -> None:
    first = made(store, text='{"a":1}\n{"a":2}\n')
    found = store.sound("split", "k1")
    assert found == first
    assert found.files["train.jsonl"].rows == 2
    assert set(found.files) == {"train.jsonl", "sub/b.txt"}


def test_another_machine_reads_the_same_files(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = made(store)
    other = elsewhere(store, monkeypatch, tmp_path)
    assert other.sound("split", "k1") == first
    assert (other.folder(first) / "train.jsonl").read_text() == "hello\n"
    assert other.file(first, "sub/b.txt").read_text() == "b"


def test_an_object_does_not_exist_before_its_manifest(store: Store) -> None:
    folder = store.begin("split", "k1")
    (folder / "a").write_text("a")
    assert store.find("split", "k1") is None


@pytest.mark.parametrize("damage", ["delete", "truncate", "alter"])
def test_a_damaged_file_is_named_and_built_again(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"{made(store).folder}/train.jsonl"
    if damage == "delete":
        store.backend.remove([path])
    else:
        store.backend.write(path, b"hell" if damage == "truncate" else b"jello\n")
    with caplog.at_level(logging.WARNING):
        assert store.sound("split", "k1") is None
    assert "train.jsonl" in caplog.text
    again = made(store)
    assert store.sound("split", "k1") == again
    assert (store.folder(again) / "train.jsonl").read_text() == "hello\n"


def test_an_altered_file_is_not_read_from_a_copy(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = made(store)
    other = elsewhere(store, monkeypatch, tmp_path)
    store.backend.write(f"{first.folder}/train.jsonl", b"jello\n")
    if store.backend.folder is None:
        with pytest.raises(StoreError, match=r"train.jsonl does not match its manifest; run the same"):
            other.folder(first)
    assert other.sound("split", "k1") is None


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"stage": 1}', b"\xff"])
def test_a_damaged_manifest_is_replaced(store: Store, data: bytes) -> None:
    store.backend.write(made(store).path, data)
    assert store.find("split", "k1") is None
    again = made(store)
    assert store.sound("split", "k1") == again


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"summary": {}},
        {"summary": {"n": 2}},
        {"ingredients": {"version": 2}},
        {"created_at": "yesterday"},
        {"key": "k2"},
        {"checksum": "0"},
    ],
    ids=str,
)
def test_an_altered_manifest_is_ignored(store: Store, change: dict[str, Any]) -> None:
    first = made(store)
    store.backend.write(first.path, json.dumps({**first.to_json(), **change}).encode())
    assert store.find("split", "k1") is None
    assert store.sound("split", "k1") != made(store)


def test_a_manifest_at_another_path_is_ignored(store: Store) -> None:
    first, second = made(store, "k1"), made(store, "k2")
    content = store.backend.read(first.path)
    assert content is not None
    store.backend.write(second.path, content.data)
    assert store.find("split", "k2") is None
    assert store.find("split", "k1") == first


@pytest.mark.parametrize("newer", [True, False])
def test_manifests_of_newer_and_of_older_versions_are_read(store: Store, newer: bool) -> None:
    first = made(store)
    value = first.to_json()
    del value["checksum"]
    if newer:
        value["author"] = "somebody"
        value["files"]["train.jsonl"]["compression"] = "none"
        value["checksum"] = jsonio.digest(value)
    store.backend.write(first.path, json.dumps(value).encode())
    assert store.sound("split", "k1") == first


def test_the_second_writer_of_a_key_adopts_the_first_object(store: Store) -> None:
    first = made(store)
    before = paths(store)
    second = made(store, text="other\n")
    assert second == first
    assert paths(store) == before


def test_a_refreshed_object_replaces_an_intact_one(store: Store) -> None:
    first = made(store)
    second = made(store, text="new\n", replace=True)
    assert store.sound("split", "k1") == second
    assert second.digest != first.digest


def test_the_digest_depends_on_contents_not_on_times_writers_or_paths(store: Store) -> None:
    assert made(store, "k1").digest == made(store, "k2").digest
    assert made(store, "k3", "else\n").digest != made(store, "k1").digest


def test_a_manifest_is_unchanged_after_json(store: Store) -> None:
    first = made(store)
    assert Manifest.from_json(json.loads(json.dumps(first.to_json())), "m.json") == first
    numbered = first.model_copy(update={"summary": {"by_label": {10: 1, 9: 0.1}}})
    assert Manifest.from_json(json.loads(json.dumps(numbered.to_json())), "m.json").summary["by_label"] == {
        "10": 1,
        "9": 0.1,
    }


def test_an_unwritable_root_is_an_error_on_opening(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*/file/.*; see whether run.root is a folder"):
        Store.open(str(tmp_path / "file"))


@pytest.mark.parametrize("url", ["gs://bucket/x", "http://host/x"])
def test_a_root_without_conditional_writes_is_rejected(url: str) -> None:
    with pytest.raises(UserError, match=rf"run.root: {url}: only folders and s3:// support the conditional"):
        Store.open(url)


def test_a_root_in_the_home_of_an_unknown_user_is_rejected() -> None:
    with pytest.raises(UserError, match=r"run.root: ~no-such-user/x: that user has no home folder"):
        Store.open("~no-such-user/x")


def test_a_name_that_is_too_long_for_the_disk_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    with pytest.raises(StoreError, match=r"File name too long; choose a shorter run.name"):
        store.backend.write("runs/" + 300 * "n" + "/a", b"")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_an_unreadable_object_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    store = Store.open(str(tmp_path))
    made(store)
    monkeypatch.setattr(jsonio, "file_digest", refused)
    with pytest.raises(StoreError, match=r"cannot read .*/(train.jsonl|sub/b.txt): .*run.root"):
        store.sound("split", "k1")


def test_a_full_disk_is_an_error_with_the_path_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store.open(str(tmp_path))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*: No space left on device; free disk space"):
        made(store)
