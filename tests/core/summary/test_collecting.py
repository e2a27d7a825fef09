"""Invalid and foreign files are reported and skipped; the rest is in the table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from core.errors import StoreError
from core.store import Disk, RunView, Store
from core.store.s3 import S3
from core.summary.summarize import collect
from tests.core.summary.making import metrics_file, put, result, write_facts, write_run

ON_DISK = pytest.mark.parametrize("root", ["disk"], indirect=True)
ON_S3 = pytest.mark.parametrize("root", ["s3"], indirect=True)
PLACE = "runs/broken/student_phase/metrics_test.json"


def without(*names: str) -> dict[str, Any]:
    content = metrics_file("broken")
    return {**content, "metrics": {k: v for k, v in content["metrics"].items() if k not in names}}


def with_metric(name: str, value: Any) -> dict[str, Any]:
    content = metrics_file("broken")
    return {**content, "metrics": {**content["metrics"], name: value}}


@ON_DISK
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"split": "te', "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"7" * 5_000, "not JSON"),
        ([], "input should be an object"),
        ({"split": "test"}, "created_at: field required"),
        ({**metrics_file("broken"), "metrics": None}, "metrics: "),
        ({**metrics_file("broken"), "n": 1.5}, "n: "),
        ({**metrics_file("broken"), "checkpoint_path": {}}, "checkpoint_path: "),
        (metrics_file("broken", "val"), "split: expected test, found 'val'"),
        (without("mcc", "tn"), "metrics.mcc: field required"),
        (with_metric("auroc", "high"), "metrics.auroc: input should be a valid number, found 'high'"),
        (with_metric("auroc", True), "metrics.auroc: input should be a valid number"),
        (with_metric("auroc", 10**400), "metrics.auroc: "),
        (with_metric("tp", -1), "metrics.tp: "),
        ({**metrics_file("broken"), "intervals": []}, "intervals: "),
    ],
)
def test_an_invalid_metrics_file_is_reported_and_the_others_are_read(
    store: Store, content: Any, why: str
) -> None:
    write_run(store, "whole", splits=["test"])
    write_run(store, "broken", splits=["val"])
    put(store, PLACE, content)
    found = collect(store)
    assert [p.place for p in found.skipped] == [PLACE]
    assert found.skipped[0].why.startswith(why)
    assert len(found.rows) == 4
    assert found.runs == 2


@ON_DISK
@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_nan_is_reported_and_an_empty_cell(store: Store, value: str) -> None:
    put(store, PLACE, with_metric("auroc", float(value)))
    found = collect(store)
    assert [row.file.metrics.auroc for row in found.rows] == [None]
    assert [(p.place, p.why.partition(",")[0]) for p in found.skipped] == [(PLACE, "contains NaN")]


def test_other_folders_and_files_are_reported_on_every_root(store: Store) -> None:
    write_run(store, "whole", splits=["test"], modes=["reasoning"])
    put(store, "runs/notes.txt", "mine")
    put(store, "runs/.DS_Store", "a tool's")
    put(store, "runs/tensorboard/events", "not ours")
    put(store, "runs/flat/student_phase", "a file in place of a folder")
    RunView(store, "halfway").note_state("running")
    found = collect(store)
    nothing = "has no student_phase/metrics_{train,val,test}.json or metrics_{train,val,test}_label_only.json"
    assert [(p.place, p.why) for p in found.skipped] == [
        ("runs/flat", nothing),
        ("runs/halfway", "nothing is exported yet (state: running)"),
        ("runs/notes.txt", "is a file; runs are folders"),
        ("runs/tensorboard", nothing),
    ]
    assert [row.run for row in found.rows] == ["whole"]


@ON_DISK
def test_unreadable_files_and_folders_are_reported(store: Store) -> None:
    folder = store.backend.folder
    assert folder is not None
    write_run(store, "whole", splits=["test"], modes=["reasoning"])
    (folder / PLACE).mkdir(parents=True)
    (folder / "runs/gone").symlink_to(folder / "nowhere")
    (folder / "runs/circle").symlink_to(folder / "runs/circle")
    (folder / "runs/empty").mkdir()
    found = collect(store)
    assert [p.place for p in found.skipped] == [PLACE, "runs/circle", "runs/empty", "runs/gone"]
    assert "Is a directory" in found.skipped[0].why
    assert found.runs == 1


@ON_DISK
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permissions_is_reported(store: Store) -> None:
    folder = store.backend.folder
    assert folder is not None
    write_run(store, "closed", splits=["test"], modes=["reasoning"])
    (folder / "runs/closed/student_phase").chmod(0)
    try:
        found = collect(store)
    finally:
        (folder / "runs/closed/student_phase").chmod(0o700)
    assert "Permission denied" in found.skipped[0].why


@ON_DISK
def test_a_file_named_runs_is_an_error_with_its_path(store: Store) -> None:
    put(store, "runs", "a file")
    with pytest.raises(StoreError, match=r"cannot list .*/runs: Not a directory"):
        collect(store)


def test_an_empty_root_has_no_rows(store: Store) -> None:
    found = collect(store)
    assert (found.rows, found.skipped, found.runs) == ([], [], 0)


@ON_DISK
def test_an_invalid_file_leaves_only_its_own_columns_empty(store: Store) -> None:
    write_run(store, "a", splits=["test"], modes=["reasoning"])
    write_facts(store, "a")
    put(store, "runs/a/made_by.json", {"version": 7})
    put(store, "runs/a/resolved_config.yaml", "student: {engine: [")
    found = collect(store)
    assert [(p.place, p.why.split(" (")[0]) for p in found.skipped] == [
        ("runs/a/made_by.json", "version: input should be a valid string, found 7"),
        ("runs/a/resolved_config.yaml", "not YAML"),
    ]
    (row,) = found.rows
    assert (row.facts.version, row.facts.engine) == (None, None)
    assert (row.facts.teacher_model, row.facts.best_step) == ("big, model", 40)


@ON_DISK
@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("seed: 1\n", "the section student is missing"),
        ("student:\n  engine: 5\n", "student.engine"),
        ("student: 5\n", "student: input"),
    ],
)
def test_an_invalid_config_is_reported(store: Store, section: str, why: str) -> None:
    write_run(store, "a", splits=["test"], modes=["reasoning"])
    put(store, "runs/a/resolved_config.yaml", section)
    (skipped,) = collect(store).skipped
    assert skipped.place == "runs/a/resolved_config.yaml"
    assert skipped.why.startswith(why)


@ON_DISK
def test_a_result_of_a_newer_version_is_reported_and_the_metrics_are_read(store: Store) -> None:
    write_run(store, "a", splits=["test"], modes=["reasoning"])
    put(store, "runs/a/run_summary.json", {**result("a").to_json(), "version": 99})
    found = collect(store)
    assert len(found.rows) == 1
    assert [(p.place, "version 99 is unknown" in p.why) for p in found.skipped] == [
        ("runs/a/run_summary.json", True)
    ]


class Counting(S3):
    """A root on S3 that records what is read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.listed: list[str] = []
        self.wanted: list[str] = []

    def list(self, prefix: str) -> Any:
        self.listed.append(prefix)
        return super().list(prefix)

    def read(self, path: str) -> Any:
        self.wanted.append(path)
        return super().read(path)


@ON_S3
def test_a_remote_root_is_listed_once_and_only_needed_files_are_read(store: Store) -> None:
    write_run(store, "a", splits=["test", "val"], modes=["reasoning"])
    put(store, "runs/a/student_phase/test.json", "large")
    backend = Counting(store.backend.url)
    counted = Store(backend, store.copies)
    assert len(collect(counted, with_facts=False).rows) == 2
    assert backend.listed == ["runs"]
    assert sorted(backend.wanted) == [
        "runs/a/student_phase/metrics_test.json",
        "runs/a/student_phase/metrics_val.json",
    ]


def test_reading_does_not_create_the_root(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "none"))
    assert isinstance(store.backend, Disk)
    assert collect(store).rows == []
    assert not (tmp_path / "none").exists()
