"""Garbage is only what nothing refers to, what is not young, and what no lease names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from core.store import Backend, RunView, Store, pointers
from core.summary.run_records import list_runs
from tests.core.store.making import made, paths


def test_objects_of_a_run_or_a_pointer_are_kept(store: Store) -> None:
    used, named, unused = (made(store, key) for key in ("used", "named", "unused"))
    RunView(store, "r").record("split", used, reused=False)
    pointers.publish(store, "r", {"best_model_path": f"{named.folder}/sub"}, [])
    store.backend.write("cache/split/unused.json", b"{}")
    garbage = pointers.find_garbage(store, grace=-1)
    assert set(garbage.objects) == {("split", "unused")}
    assert garbage.bytes > 0
    pointers.collect(store, garbage)
    assert store.sound("split", "used") == used
    assert store.sound("split", "named") == named
    assert store.find("split", "unused") is None
    assert [p for p in paths(store) if "unused" in p] == []
    assert paths(store, "cache") == []
    assert unused.key == "unused"


@pytest.mark.parametrize("moved", ["runs/r", "runs", "objects", "objects/split"])
def test_objects_of_a_moved_run_are_kept(tmp_path: Path, moved: str) -> None:
    store = Store.open(str(tmp_path / "root"))
    RunView(store, "r").record("split", made(store, "used"), reused=False)
    made(store, "unused")
    (tmp_path / "root" / moved).rename(tmp_path / "elsewhere")
    (tmp_path / "root" / moved).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/objects/split/unused/around").symlink_to(tmp_path / "root")
    garbage = pointers.find_garbage(store, grace=-1)
    assert set(garbage.objects) == {("split", "unused")}
    assert [e.name for e in list_runs(store)] == ["r"]
    pointers.collect(store, garbage)
    assert store.sound("split", "used") is not None


def test_a_manifest_is_removed_before_its_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made(store)
    remove = type(store.backend).remove
    states: list[list[str]] = []

    def noted(self: Backend, files: Iterable[str]) -> None:
        remove(self, files)
        states.append(paths(store))

    monkeypatch.setattr(type(store.backend), "remove", noted)
    pointers.collect(store, pointers.find_garbage(store, grace=-1))
    assert [p.count("/") > 2 for p in states[0]] == [True, True]
    assert states[-1] == []


def test_finding_garbage_removes_nothing(store: Store) -> None:
    made(store)
    before = paths(store, "")
    pointers.find_garbage(store, grace=-1)
    assert paths(store, "") == before


def test_unrecorded_objects_are_kept_while_a_run_is_active(store: Store) -> None:
    made(store)
    store.backend.write("runs/r/.report.html.0a1b2c3d.tmp", b"half")
    with store.lease("runs/r", "run r"):
        assert pointers.find_garbage(store, grace=-1).files == []
    found = pointers.find_garbage(store, grace=-1)
    assert len(found.objects) == 1
    assert len(found.leftovers) == 1


def test_young_objects_are_kept(store: Store) -> None:
    made(store)
    store.backend.write("objects/split/k2/dead-writer/half.txt", b"half")
    garbage = pointers.find_garbage(store, grace=60)
    assert garbage.files == []
    assert garbage.young == 2


def test_leased_objects_are_kept(store: Store) -> None:
    store.backend.write("objects/split/k1/writer/half.txt", b"half")
    with store.lease("split/k1", "split"):
        assert pointers.find_garbage(store, grace=-1).files == []
    assert len(pointers.find_garbage(store, grace=-1).objects) == 1


def test_objects_that_are_used_after_the_search_are_kept(store: Store) -> None:
    first = made(store)
    garbage = pointers.find_garbage(store, grace=-1)
    RunView(store, "r").record("split", first, reused=True)
    assert pointers.collect(store, garbage).files == []
    assert store.sound("split", "k1") == first


def test_leftovers_of_killed_writers_are_removed_unless_named(store: Store) -> None:
    first = made(store)
    pointers.publish(store, "r", {"best_model_path": f"{first.folder}/sub"}, [])
    second = made(store, text="new\n", replace=True)
    RunView(store, "r").record("split", second, reused=False)
    store.backend.write("objects/split/k1/dead-writer/half.txt", b"half")
    pointers.collect(store, pointers.find_garbage(store, grace=-1))
    left = {p.split("/")[3] for p in paths(store) if p.count("/") > 2}
    assert left == {first.writer, second.writer}
    assert store.sound("split", "k1") == second


def test_dead_leases_and_temporary_files_are_removed(store: Store) -> None:
    store.backend.write("leases/split/k1.json", b"{}")
    store.backend.write("runs/r/.12345678.tmp.json", b"half")
    store.backend.write("runs/r/a.json", b"whole")
    pointers.collect(store, pointers.find_garbage(store, grace=-1))
    assert paths(store, "") == ["runs/r/a.json"]
