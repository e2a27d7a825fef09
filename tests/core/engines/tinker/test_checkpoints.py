"""Checkpoints on a server are listed, removed, and kept forever or for a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.engines import Checkpoint, LoraSpec, RemoteCheckpoint, SaveLabel
from core.engines.tinker import TinkerEngine, TinkerSettings
from core.errors import CheckpointGone
from tests.core.engines.tinker.conftest import MakeEngine


@pytest.fixture
def saved(engine: TinkerEngine, lora: LoraSpec, folder: Path) -> Checkpoint:
    return engine.open(lora, None).save(folder, step=40, label=SaveLabel("abc", "w1"))


def listed(engine: TinkerEngine, saved: Checkpoint) -> dict[str, RemoteCheckpoint]:
    paths = (saved.state.location, saved.sampler.location)
    return {each.kind: each for each in engine.checkpoints() if each.location in paths}


def test_state_and_weights_are_listed_with_size_expiry_and_step(
    engine: TinkerEngine, saved: Checkpoint
) -> None:
    found = listed(engine, saved)
    assert set(found) == {"state", "sampler"}
    for each in found.values():
        assert each.step == 40
        assert "/understudy-abc-step000040-w1-" in each.location
        assert each.bytes is not None
        assert each.bytes > 1000
        assert each.expires is not None
        assert abs(each.expires - datetime.now(UTC) - timedelta(seconds=7 * 24 * 3600)) < timedelta(minutes=5)
    assert (found["state"].bytes or 0) > (found["sampler"].bytes or 0)


def test_the_latest_is_listed_first(engine: TinkerEngine, saved: Checkpoint) -> None:
    times = [each.created for each in engine.checkpoints()]
    assert times == sorted(times, reverse=True)


def test_all_pages_are_listed(engine: TinkerEngine, lora: LoraSpec, folder: Path) -> None:
    session = engine.open(lora, None)
    saves = [session.save(folder, step=step) for step in range(55)]
    found = {each.location for each in engine.checkpoints()}
    assert len(engine.checkpoints()) == len(found) > 100
    assert {save.state.location for save in saves} <= found


def test_a_kept_checkpoint_never_expires(engine: TinkerEngine, saved: Checkpoint) -> None:
    engine.keep(saved)
    assert [each.expires for each in listed(engine, saved).values()] == [None, None]
    engine.keep(saved)


def test_a_checkpoint_without_expiry_is_kept_without_a_request(
    make_engine: MakeEngine, lora: LoraSpec, folder: Path
) -> None:
    engine = make_engine(settings=TinkerSettings(checkpoint_ttl_days=None))
    saved = engine.open(lora, None).save(folder, step=0)
    engine.keep(saved)
    assert [each.expires for each in listed(engine, saved).values()] == [None, None]


def test_a_removed_checkpoint_is_gone(engine: TinkerEngine, saved: Checkpoint) -> None:
    engine.remove(saved.state.location)
    assert set(listed(engine, saved)) == {"sampler"}
    assert not engine.checkpoint_exists(saved)
    with pytest.raises(CheckpointGone):
        engine.remove(saved.state.location)
    with pytest.raises(CheckpointGone):
        engine.keep(saved)
