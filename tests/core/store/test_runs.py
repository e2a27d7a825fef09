"""A run's folder: copies for people, and the record of the objects they came from."""

from __future__ import annotations

import pytest

from core.errors import MissingInputError, StoreError
from core.store import RunView, Store, run_names
from core.store.pointers import find_garbage
from core.store.run_view import RECORD
from tests.core.store.making import made


def test_editing_a_file_of_a_run_does_not_change_its_object(store: Store) -> None:
    first, view = made(store), RunView(store, "r")
    view.fill(first, {"train.jsonl": "data_splits/train.jsonl"})
    assert view.read("data_splits/train.jsonl") == "hello\n"
    view.write("data_splits/train.jsonl", "edited")
    assert store.sound("split", "k1") == first


def test_a_missing_object_of_a_stage_that_is_off_names_run_and_file(store: Store) -> None:
    view = RunView(store, "r")
    with pytest.raises(MissingInputError) as e:
        view.earlier("split", file="data_splits/train.csv")
    assert "run r has no data_splits/train.csv of its own" in str(e.value)
    assert view.where("data_splits/train.csv") in str(e.value)


def test_a_failed_write_keeps_the_old_file(store: Store) -> None:
    view = RunView(store, "r")
    view.write("a.txt", "old")

    def fail() -> None:
        with view.replacing("a.txt") as path:
            path.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert view.read("a.txt") == "old"
    assert [f.path for f in store.backend.list("runs/r")] == ["runs/r/a.txt"]


def test_a_file_written_to_a_temporary_path_replaces_the_old_one(store: Store) -> None:
    view = RunView(store, "r")
    with view.replacing("sub/a.txt") as path:
        path.write_text("new")
    assert view.read("sub/a.txt") == "new"


def test_nan_is_never_written(store: Store) -> None:
    with pytest.raises(ValueError):
        RunView(store, "r").write_json("x.json", {"a": float("nan")})


def test_a_record_keeps_only_the_stages_that_the_run_used(store: Store) -> None:
    view = RunView(store, "r")
    view.record("split", made(store), reused=False)
    view.record("train/5", made(store, "k2"), reused=True)
    view.keep_only(["split"])
    assert {slot: entry.key for slot, entry in view.stages().items()} == {"split": "k1"}


def test_runs_are_listed_by_name_without_other_files(store: Store) -> None:
    RunView(store, "b").write("a/b.txt", "")
    RunView(store, "a").write("x.txt", "")
    store.backend.write("runs/stray.txt", b"")
    assert run_names(store) == ["a", "b"]


@pytest.mark.parametrize("data", ["{", "[]", '{"split": 5}', '{"split": {"key": 5, "at": ""}}'])
def test_a_damaged_record_is_named_and_no_garbage_is_collected(store: Store, data: str) -> None:
    RunView(store, "r").write(RECORD, data)
    with pytest.raises(StoreError, match=r"runs/r/stages\.json is no.* remove it and run the same command"):
        find_garbage(store, grace=0)


def test_undecodable_bytes_are_replaced(store: Store) -> None:
    store.backend.write("runs/r/resolved_config.yaml", b"run:\n\xff")
    assert RunView(store, "r").config_text() == "run:\n\ufffd"
