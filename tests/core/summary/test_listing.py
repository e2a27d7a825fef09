"""The list of runs under a root, and their removal."""

from __future__ import annotations

import json

import pytest

from core.errors import MissingInputError, UserError
from core.results import RunResult
from core.store import RunView, Store, leases, pointers, run_names
from core.summary.run_records import RunEntry, list_runs, remove_run
from tests.core.export.making import with_values
from tests.core.store.making import made, paths
from tests.core.summary.making import metrics

pytestmark = pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)


def ran(store: Store, name: str, state: str = "finished", key: str = "k1") -> RunView:
    """A run with one object, a state and a summary."""
    view = RunView(store, name)
    view.record("split", made(store, key), reused=False)
    view.note_state(state)
    student = with_values(metrics(), macro_f1=0.75, auroc=0.9, log_loss=0.4)
    result = RunResult(run_dir=f"runs/{name}", best_step=40, test={"student": student})
    view.write_json("run_summary.json", result.to_json())
    return view


def only(store: Store) -> RunEntry:
    (entry,) = list_runs(store)
    return entry


def test_a_root_without_runs_lists_nothing(store: Store) -> None:
    assert list_runs(store) == []


def test_a_run_is_listed_with_its_steps_and_the_students_metrics(store: Store) -> None:
    ran(store, "r")
    entry = only(store)
    assert (entry.name, entry.state, entry.stages, entry.best_step) == ("r", "finished", 1, 40)
    assert entry.metrics == {"macro_f1": 0.75, "auroc": 0.9, "log_loss": 0.4}
    assert entry.at is not None
    assert not entry.latest


def test_the_size_includes_the_objects_of_the_run(store: Store) -> None:
    ran(store, "r")
    made(store, "unused")
    own = sum(f.bytes for f in store.backend.list("runs/r"))
    held = sum(f.bytes for f in store.backend.list("objects") if "/k1" in f.path)
    assert only(store).bytes == own + held


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_the_state_is_the_recorded_one(store: Store, state: str) -> None:
    ran(store, "r", state)
    assert only(store).state == state


def test_a_failed_run_has_its_error(store: Store) -> None:
    RunView(store, "r").note_state("failed", error="no room")
    assert only(store).error == "no room"


def test_a_running_run_without_a_live_lease_is_died(store: Store) -> None:
    ran(store, "r", "running")
    with store.lease("runs/r", "run r"):
        assert only(store).state == "running"
    assert only(store).state == "died"
    leave_lease(store, {**leases.this_process(), "started": "never"})
    assert only(store).state == "died"


def leave_lease(store: Store, who: dict[str, object]) -> None:
    """Write the lease that a killed run leaves."""
    lease = {"id": "x", "beat": 1, "what": "r", "holder": who, "beat_at": "2099-01-01T00:00:00+00:00"}
    store.backend.write(f"{leases.FOLDER}/runs/r.json", json.dumps(lease).encode())


def test_incomplete_and_invalid_runs_are_listed(store: Store) -> None:
    store.backend.write("runs/a/train.log", b"begun\n")
    store.backend.write("runs/b/run_summary.json", b'{"test": null}')
    assert [(e.name, e.state, e.best_step, e.metrics) for e in list_runs(store)] == [
        ("a", "unknown", None, {}),
        ("b", "unknown", None, {}),
    ]


def test_the_latest_run_is_marked(store: Store) -> None:
    for name in ("a", "b"):
        ran(store, name)
    pointers.publish(store, "a", {"run_dir": "runs/a"}, [])
    assert [(e.name, e.latest) for e in list_runs(store)] == [("a", True), ("b", False)]


def test_the_error_for_an_unknown_run_lists_existing_runs(store: Store) -> None:
    with pytest.raises(MissingInputError, match=r"run x does not exist under .*; existing runs: none"):
        remove_run(store, "x")
    ran(store, "a")
    ran(store, "b")
    with pytest.raises(MissingInputError, match=r"run x does not exist under .*; existing runs: a, b"):
        remove_run(store, "x")


def test_a_running_run_is_not_removed(store: Store) -> None:
    ran(store, "r")
    with (
        store.lease("runs/r", "run r"),
        pytest.raises(UserError, match="run r is running; stop it first"),
    ):
        remove_run(store, "r", force=True)
    assert run_names(store) == ["r"]


def test_the_latest_run_is_removed_only_with_force(store: Store) -> None:
    ran(store, "r")
    pointers.publish(store, "r", {"run_dir": "runs/r"}, [])
    before = paths(store, "")
    with pytest.raises(UserError, match=r"model/latest\.json names run r, .* add --force"):
        remove_run(store, "r")
    assert paths(store, "") == before
    removed = remove_run(store, "r", force=True)
    assert removed == ["model/latest.json", "model/r.json", RunView(store, "r").where()]
    assert pointers.names(store) == []
    assert run_names(store) == []


def test_removal_deletes_own_pointers_and_keeps_shared_objects(store: Store) -> None:
    ran(store, "a")
    ran(store, "ab")
    pointers.publish(store, "a", {"run_dir": "runs/a"}, [])
    pointers.publish(store, "ab", {"run_dir": "runs/ab"}, [])
    remove_run(store, "a")
    assert pointers.names(store) == ["ab", "latest"]
    assert run_names(store) == ["ab"]
    assert store.sound("split", "k1") is not None


def test_pointers_are_removed_before_the_folder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(store, "r")
    pointers.publish(store, "r", {"run_dir": "runs/r"}, [])
    removed: list[str] = []
    remove = store.backend.remove

    def noted(paths: list[str]) -> None:
        removed.extend(paths)
        remove(paths)

    monkeypatch.setattr(type(store.backend), "remove", lambda self, paths: noted(list(paths)))
    remove_run(store, "r", force=True)
    folders = [path.partition("/")[0] for path in removed]
    assert folders == sorted(folders)
    assert set(folders) == {"model", "runs"}
