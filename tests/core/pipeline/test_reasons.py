"""Why a stage runs: the changes since this run, or else the run that worked last, built it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from core.config import ConfigSection
from core.pipeline.runners import LOOKED_AT, Reasons
from core.progress import Silent
from core.stage import Stage, StageCall, StageIO, build
from core.store import Disk, Manifest, RunView, Store
from core.store.run_view import RECORD


class Part(ConfigSection):
    """The settings of a stage."""

    seed: int


def stage(seed: int, slot: str = "split") -> StageCall:
    return Stage(slot.partition("/")[0], 1, run, Part, slot=slot).call(Part(seed=seed))


def run(part: Part, io: StageIO) -> dict[str, Any]:
    (io.out / "seed.txt").write_text(str(part.seed))
    return {}


def made(store: Store, name: str, of: StageCall, *, reused: bool = False) -> Manifest:
    """Build a stage's object and record it in a run."""
    manifest = build(store, of, Silent()).manifest
    RunView(store, name).record(of.slot, manifest, reused=reused)
    return manifest


def why(store: Store, name: str, of: StageCall) -> str:
    return Reasons(RunView(store, name)).why(of)


def lost(store: Store, manifest: Manifest) -> None:
    """Remove its manifest."""
    store.backend.remove([manifest.path])


def test_a_stage_that_was_never_built_has_no_differences(store: Store) -> None:
    assert why(store, "a", stage(1)) == "not made before"
    made(store, "b", stage(1, "train/2"))
    assert why(store, "a", stage(1, "train/3")) == "not made before"


def test_a_run_is_compared_with_itself_first_without_its_name(store: Store) -> None:
    made(store, "a", stage(1))
    made(store, "b", stage(2))
    assert why(store, "a", stage(3)) == "config.seed changed from 1 to 3"


def test_a_new_run_is_compared_with_the_run_that_worked_last(store: Store) -> None:
    for k, name in enumerate(("b", "a")):
        if k:
            time.sleep(1.1)  # an S3 listing has whole seconds
        made(store, name, stage(k))
    made(store, "a", stage(7, "train/2"))
    assert why(store, "new", stage(9)) == "config.seed changed from 1 to 9 (compared with run a)"
    made(store, "b", stage(5, "train/4"))
    assert why(store, "new", stage(9, "train/4")) == "config.seed changed from 5 to 9 (compared with run b)"


def test_a_run_without_its_object_is_compared_with_another_run(store: Store) -> None:
    lost(store, made(store, "a", stage(1)))
    assert why(store, "a", stage(3)) == "not made before"
    made(store, "b", stage(2))
    assert why(store, "a", stage(3)) == "config.seed changed from 2 to 3 (compared with run b)"


def test_a_stage_never_differs_from_itself(store: Store) -> None:
    found = made(store, "a", stage(1))
    store.backend.remove([f"{found.folder}/seed.txt"])
    assert why(store, "a", stage(1)) == why(store, "b", stage(1)) == "its files are missing or damaged"


def test_without_a_record_the_newest_object_is_compared(store: Store) -> None:
    manifest = build(store, stage(1), Silent()).manifest
    expected = f"config.seed changed from 1 to 2 (compared with what was made {manifest.created_at})"
    assert why(store, "a", stage(2)) == expected


def test_the_log_of_a_new_run_compares_with_no_other_run(store: Store) -> None:
    build(store, stage(1), Silent())
    made(store, "b", stage(2))
    made(store, "b", stage(2, "train/2"))
    for name in ("new", "another"):
        reasons = Reasons(RunView(store, name))
        assert reasons.own(stage(3)) == reasons.own(stage(3, "train/2")) == "not cached"


def test_the_log_compares_a_run_with_its_own_record(store: Store) -> None:
    found = made(store, "a", stage(1))
    made(store, "b", stage(2))
    reasons = Reasons(RunView(store, "a"))
    assert reasons.own(stage(3)) == "config.seed changed from 1 to 3"
    assert reasons.own(stage(3, "train/2")) == "not cached"
    store.backend.remove([f"{found.folder}/seed.txt"])
    assert reasons.own(stage(1)) == "its files are missing or damaged"
    lost(store, found)
    assert reasons.own(stage(3)) == "not cached"


def test_a_restarted_name_is_compared_with_its_earlier_run(store: Store) -> None:
    made(store, "a.2026", stage(1))
    made(store, "b", stage(2))
    reasons = Reasons(RunView(store, "a"), before="a.2026")
    assert reasons.own(stage(3)) == "config.seed changed from 1 to 3"
    made(store, "a", stage(4))
    assert reasons.own(stage(5)) == "config.seed changed from 4 to 5"


def test_a_damaged_record_of_another_run_is_skipped_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    made(store, "good", stage(1))
    store.backend.write(f"runs/worse/{RECORD}", b"[]")
    assert why(store, "new", stage(2)).endswith("(compared with run good)")
    assert "runs/worse/stages.json is not a record of stages" in caplog.text


def test_a_thousand_runs_are_listed_once_and_few_records_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path))
    manifest = made(store, "first", stage(1))
    entry = {"key": manifest.key, "at": manifest.created_at}
    for k in range(1000):
        place = tmp_path / f"runs/r{k:03}/{RECORD}"
        place.parent.mkdir()
        place.write_text(json.dumps({"split": entry}))
        os.utime(place, (k, k))
    seen: list[str] = []

    def count(name: str) -> None:
        method = getattr(Disk, name)

        def counting(self: Disk, path: str) -> object:
            seen.append(f"{name} {path}")
            return method(self, path)

        monkeypatch.setattr(Disk, name, counting)

    count("list")
    count("read")
    reasons = Reasons(RunView(store, "new"))
    for step in range(20):
        assert reasons.why(stage(1, f"train/{step}")) == "not made before"
    assert reasons.why(stage(2)).endswith("(compared with run first)")
    assert seen.count("list runs") == 1
    assert sum(s.startswith("read runs/") and "/new/" not in s for s in seen) == LOOKED_AT
