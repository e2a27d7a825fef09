"""Objects: whole or not there, verified before they are believed, adopted by the second writer."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from core.errors import MissingInputError, StoreError, UserError
from core.store import pointers
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import RunView


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "root"))


def make(store: Store, key: str = "k1", text: str = "hello\n", *, replace: bool = False) -> Manifest:
    folder = store.begin("split", key)
    (folder / "train.jsonl").write_text(text)
    (folder / "sub").mkdir()
    (folder / "sub/b.txt").write_text("b")
    return store.commit("split", key, folder, {"version": 1}, {"n": 1}, replace=replace)


def test_a_committed_object_is_found_whole_with_its_rows(store: Store) -> None:
    made = make(store, text='{"a":1}\n{"a":2}\n')
    found = store.sound("split", "k1")
    assert found == made
    assert found.files["train.jsonl"].rows == 2
    assert set(found.files) == {"train.jsonl", "sub/b.txt"}


def test_nothing_is_there_before_the_manifest(store: Store) -> None:
    folder = store.begin("split", "k1")
    (folder / "a").write_text("a")
    assert store.find("split", "k1") is None


@pytest.mark.parametrize("damage", ["delete", "truncate", "alter"])
def test_a_damaged_file_is_noticed_and_named(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(store)
    path = store.folder(made) / "train.jsonl"
    if damage == "delete":
        path.unlink()
    else:
        path.write_text("hell" if damage == "truncate" else "jello\n")
    with caplog.at_level(logging.WARNING):
        assert store.sound("split", "k1") is None
    assert "train.jsonl" in caplog.text


def test_a_damaged_manifest_is_no_manifest(store: Store) -> None:
    made = make(store)
    (store.root / made.path).write_text("{")
    assert store.find("split", "k1") is None


def test_the_second_writer_of_a_key_adopts_the_first(store: Store) -> None:
    first, second = make(store), make(store, text="other\n")
    assert second.writer == first.writer
    assert sorted(p.name for p in (store.root / "objects/split/k1").iterdir()) == [first.writer]


def test_a_damaged_object_is_replaced_by_the_next_writer(store: Store) -> None:
    first = make(store)
    (store.folder(first) / "train.jsonl").unlink()
    second = make(store)
    assert second.writer != first.writer
    assert store.sound("split", "k1") == second


def test_a_refreshed_object_replaces_a_sound_one(store: Store) -> None:
    first = make(store)
    second = make(store, text="new\n", replace=True)
    assert store.sound("split", "k1") == second
    assert second.digest != first.digest


def test_the_digest_follows_contents_and_not_times_or_writers(store: Store) -> None:
    assert make(store, "k1").digest == make(store, "k2").digest
    assert make(store, "k3", "else\n").digest != make(store, "k1").digest


def test_a_root_that_cannot_be_written_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*/file/.*; see whether run.root is a folder"):
        Store.open(str(tmp_path / "file"))


def test_a_remote_root_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="s3://bucket/x is not a local folder"):
        Store.open("s3://bucket/x")


def test_a_view_holds_copies_so_that_editing_one_harms_no_object(store: Store) -> None:
    made, view = make(store), RunView(store, "r")
    view.fill(made, {"train.jsonl": "data_splits/train.jsonl"})
    (view.folder / "data_splits/train.jsonl").write_text("edited")
    assert store.sound("split", "k1") == made


def test_a_stage_that_is_off_names_the_run_and_the_file_it_misses(store: Store) -> None:
    view = RunView(store, "r")
    with pytest.raises(MissingInputError) as e:
        view.earlier("split", file="data_splits/train.csv")
    assert "run r has no data_splits/train.csv of its own" in str(e.value)
    assert str(view.folder / "data_splits/train.csv") in str(e.value)


def test_a_failed_write_leaves_the_old_file(store: Store) -> None:
    view = RunView(store, "r")
    view.write("a.txt", "old")

    def fail() -> None:
        with view.replacing("a.txt") as path:
            path.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert (view.folder / "a.txt").read_text() == "old"
    assert [p.name for p in view.folder.iterdir()] == ["a.txt"]


def test_nan_is_never_written(store: Store) -> None:
    with pytest.raises(ValueError):
        RunView(store, "r").write_json("x.json", {"a": float("nan")})


def test_a_pointer_is_written_only_after_what_it_names(store: Store) -> None:
    with pytest.raises(StoreError, match=r"not published: .*/objects/none does not exist"):
        pointers.publish(store.root, "r", {"a": 1}, ["objects/none"])
    assert pointers.read(store.root) is None
    made = make(store)
    pointers.publish(store.root, "r", {"a": 1}, [made.folder])
    assert pointers.read(store.root) == pointers.read(store.root, "r") == {"a": 1}


def test_a_full_disk_is_one_sentence_with_the_place_and_the_remedy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*: No space left on device; make room and run"):
        make(store)


def test_a_manifest_survives_json(store: Store) -> None:
    made = make(store)
    assert Manifest.from_json(json.loads(json.dumps(made.to_json()))) == made
