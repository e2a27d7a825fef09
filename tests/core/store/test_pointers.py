"""Pointers are written after the files they name, and concurrent publications lose no update."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import pytest

from core.errors import StoreError
from core.store import Store, pointers
from tests.core.store.making import made

EACH = 10


def test_a_pointer_is_written_only_after_its_files_exist(store: Store) -> None:
    with pytest.raises(StoreError, match=r"not published: .*/objects/none does not exist"):
        pointers.publish(store, "r", {"a": 1}, ["objects/none"])
    assert pointers.read(store) is None
    pointers.publish(store, "r", {"a": 1}, [made(store).folder])
    for name in ("r", "latest"):
        found = pointers.read(store, name)
        assert found is not None
        assert found["a"] == 1
        assert len(found["history"]) == 1


def test_a_write_whose_reply_was_lost_is_not_published_twice(store: Store) -> None:
    pointers.swap(store, "latest", {"run_name": "a"}, "writer-1")
    pointers.swap(store, "latest", {"run_name": "b"}, "writer-2")
    pointers.swap(store, "latest", {"run_name": "a"}, "writer-1")
    found = pointers.read(store)
    assert found is not None
    assert [e["run_name"] for e in found["history"]] == ["a", "b"]
    assert found["run_name"] == "b"


def publisher(root: str, number: int, start: Callable[[], object]) -> None:
    """Publish as one of several concurrent processes."""
    store = Store.at(root)
    start()
    for i in range(EACH):
        pointers.publish(
            store, f"run-{number}", {"run_name": f"run-{number}", "saved_at": f"{number}/{i}"}, []
        )


@pytest.mark.integration
@pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)
def test_concurrent_publications_lose_no_update(root: str) -> None:
    writers = 4
    Store.open(root)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(writers)
    processes = [context.Process(target=publisher, args=(root, n, barrier.wait)) for n in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [p.exitcode for p in processes] == [0] * writers
    found = pointers.read(Store.at(root))
    assert found is not None
    saved = sorted(entry["saved_at"] for entry in found["history"])
    assert saved == sorted(f"{n}/{i}" for n in range(writers) for i in range(EACH))
    assert found["saved_at"] == found["history"][-1]["saved_at"]
    for n in range(writers):
        own = pointers.read(Store.at(root), f"run-{n}")
        assert own is not None
        assert [e["saved_at"] for e in own["history"]] == [f"{n}/{i}" for i in range(EACH)]


def test_pointers_follow_a_renamed_run(store: Store) -> None:
    content = {"run_name": "r", "run_dir": "runs/r", "metrics_path": "runs/r/m.json", "other": "runs/rr/m"}
    pointers.publish(store, "r", content, [])
    pointers.retarget(store, "runs/r/", "runs/r.1/")
    found = pointers.read(store)
    assert found is not None
    assert (found["run_dir"], found["metrics_path"]) == ("runs/r.1", "runs/r.1/m.json")
    assert found["other"] == "runs/rr/m"
    assert len(found["history"]) == 1


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_pointer_is_named_and_not_overwritten(store: Store, data: bytes) -> None:
    store.backend.write("model/latest.json", data)
    content = {"run_name": "r", "run_dir": "runs/r"}
    for attempt in (
        lambda: pointers.publish(store, "r", content, []),
        lambda: pointers.retarget(store, "runs/r/", "runs/r.1/"),
        lambda: pointers.read(store),
    ):
        with pytest.raises(StoreError, match=r"model/latest\.json is damaged.*remove it"):
            attempt()
    found = store.backend.read("model/latest.json")
    assert found is not None
    assert found.data == data
