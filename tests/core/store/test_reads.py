"""Reads of a test split: one for each frozen student, however often and in whichever run it is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import StoreError
from core.store import FileEntry, Manifest, Store
from core.store.run_view import TEST_READS, find_test_reads, note_test_read, split_digest


def manifest(content: str, name: str = "decision.json") -> Manifest:
    entry = FileEntry(sha256=content * 64, bytes=10)
    return Manifest(
        stage="decide",
        key=content * 32,
        writer="w",
        created_at="2026-01-01T00:00:00+00:00",
        files={name: entry},
        ingredients={},
        summary={},
    )


SPLIT = manifest("a", "test.csv")


def test_measuring_the_same_student_again_is_not_another_read(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    for _ in range(2):
        note_test_read(store, SPLIT, [manifest("1"), manifest("2")], "night", "step 40")
    assert [(r.run, r.what) for r in find_test_reads(store, SPLIT)] == [("night", "step 40")]


def test_every_frozen_student_is_a_read_and_the_earliest_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path))
    for i, frozen in enumerate(([manifest("1")], [manifest("2")], [manifest("1"), manifest("2")])):
        monkeypatch.setattr("core.store.run_view.now", lambda i=i: f"2026-01-0{3 - i}T00:00:00+00:00")
        note_test_read(store, SPLIT, frozen, f"run{i}", "step 0")
    assert [r.run for r in find_test_reads(store, SPLIT)] == ["run2", "run1", "run0"]


def test_other_texts_or_labels_are_another_test_split(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    note_test_read(store, SPLIT, [manifest("1")], "night", "step 40")
    assert find_test_reads(store, manifest("b", "test.csv")) == []
    more = SPLIT.model_copy(
        update={"files": {**SPLIT.files, "train.csv": FileEntry(sha256="c" * 64, bytes=3)}}
    )
    assert len(find_test_reads(store, more)) == 1


@pytest.mark.parametrize("content", ["{", "[]", "{}", '"night"', '{"run": "night", "at": null, "what": "x"}'])
def test_a_damaged_record_is_named_and_other_files_are_skipped(tmp_path: Path, content: str) -> None:
    store = Store.open(str(tmp_path))
    note_test_read(store, SPLIT, [manifest("1")], "night", "step 40")
    folder = tmp_path / TEST_READS / split_digest(SPLIT)
    (folder / "notes.txt").write_text("not ours")
    assert len(find_test_reads(store, SPLIT)) == 1
    (folder / "strange.json").write_text(content)
    with pytest.raises(StoreError, match=r"strange\.json is not (JSON|a record).*remove it"):
        find_test_reads(store, SPLIT)
