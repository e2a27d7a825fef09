"""Training in segments: restored at every boundary or kept live, the student is the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.base_model import resolve_model
from core.config import AdamConfig, LoraConfig, StudentConfig
from core.engines import Datum
from core.engines.local import LocalEngine, LocalSettings
from core.errors import StageError
from core.pipeline.run_context import RunContext
from core.progress import Silent
from core.stage import build
from core.store import Manifest, Store
from core.student.train_stage import (
    PlannedStep,
    SegmentSettings,
    SegmentWork,
    mean_over_examples,
    plan_steps,
    train,
)
from tests.building import small_config

DATA = [
    Datum(tuple(range(n, n + 12)), tuple(range(n + 1, n + 13)), (0.0,) * 6 + (1 / 6,) * 6)
    for n in range(100, 1300, 100)
]
STEPS = 6


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> LocalEngine:
    return LocalEngine(resolve_model(str(tiny_model)), device="cpu", train_dtype="float32", threads=1)


def planned() -> list[PlannedStep]:
    config = StudentConfig(batch_size=4, steps=STEPS, learning_rate=1e-2)
    return plan_steps(config, 1, [i % 2 for i in range(len(DATA))], [f"h{i}" for i in range(len(DATA))])


class Trainer:
    """Runs segments against a store, with one live session or a new one each time."""

    def __init__(self, engine: LocalEngine, root: Path, *, restores: bool) -> None:
        self.of, self.store, self.restores = RunContext(small_config()), Store.open(str(root)), restores
        self.of.engine, self.of.base = engine, {"base_model": "tiny"}

    def run(self, steps: Sequence[PlannedStep], parent: Manifest | None) -> Manifest:
        if self.restores:
            self.of.live.close()
        config = SegmentSettings(
            engine=LocalSettings(device="cpu", threads=1),
            seed=3,
            lora=LoraConfig(rank=2, alpha=4),
            adam=AdamConfig(),
        )
        work = SegmentWork(steps, STEPS, lambda: DATA)
        call = train.call(config, self.of, work.at, work, parent=parent)
        return build(self.store, call, Silent()).manifest

    def chain(self, *lengths: int) -> Manifest:
        steps, parent, at = planned(), None, 0
        for n in lengths:
            parent = self.run(steps[at : at + n], parent)
            at += n
        assert parent is not None
        return parent


def digest(manifest: Manifest) -> Any:
    return manifest.summary["checkpoint_digest"]


def test_restored_and_live_segments_give_the_same_adapter(engine: LocalEngine, tmp_path: Path) -> None:
    whole = digest(Trainer(engine, tmp_path / "a", restores=False).chain(STEPS))
    live = digest(Trainer(engine, tmp_path / "b", restores=False).chain(1, 2, 3))
    restored = digest(Trainer(engine, tmp_path / "c", restores=True).chain(1, 1, 1, 1, 1, 1))
    assert whole == live == restored


def test_a_live_session_is_used_only_at_exactly_its_checkpoint(engine: LocalEngine, tmp_path: Path) -> None:
    trainer = Trainer(engine, tmp_path, restores=False)
    steps = planned()
    first = trainer.run(steps[:2], None)
    trainer.run(steps[2:4], first)
    # The session is at step 4 now and must not be used to continue from step 2.
    other = trainer.run(steps[2:5], first)
    fresh = Trainer(engine, tmp_path / "fresh", restores=True)
    assert digest(other) == digest(fresh.run(steps[2:5], fresh.run(steps[:2], None)))


def test_a_segment_that_fails_leaves_no_session_behind(engine: LocalEngine, tmp_path: Path) -> None:
    trainer = Trainer(engine, tmp_path, restores=False)
    bad = [PlannedStep(0, 1, (0, 1), 1e38, "x"), PlannedStep(1, 1, (2, 3), 1.0, "y")]
    with pytest.raises(StageError, match="learning rate"):
        trainer.run(bad, None)
    assert trainer.of.live.session is None


def test_each_step_records_its_settings_and_loss(engine: LocalEngine, tmp_path: Path) -> None:
    trainer = Trainer(engine, tmp_path, restores=False)
    manifest = trainer.chain(STEPS)
    rows = list(jsonio.read_jsonl(trainer.store.folder(manifest) / "steps.jsonl"))
    assert [r["step"] for r in rows] == list(range(STEPS))
    assert [r["batch_hash"] for r in rows] == [s.batch_hash for s in planned()]
    assert [r["learning_rate"] for r in rows] == [s.learning_rate for s in planned()]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(r["tokens"] == 48 for r in rows)


def test_a_batchs_loss_is_a_mean_over_its_examples() -> None:
    batch = mean_over_examples(DATA[:3])
    assert sum(w for d in batch for w in d.weights) == pytest.approx(1)
