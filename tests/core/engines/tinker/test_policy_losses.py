"""Policy gradients on a server: what is sent, what is computed, and weights for a sampler."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from core.engines import AdamParams, Datum, LoraSpec, Loss
from core.engines.local import LocalEngine
from core.engines.tinker import TinkerEngine
from core.engines.tinker.session import SAMPLER_TTL_S
from tests.core.engines.tinker.conftest import rated
from tests.core.engines.tinker.test_session import newest
from tests.servers import tinker
from tests.servers.tinker_records import Saved

Batches = list[list[Datum]]
LOSSES = (Loss("importance_sampling"), Loss("ppo", 0.7, 1.4), Loss("cispo", 0.7, 1.4))


def with_advantages(batch: Sequence[Datum], local: LocalEngine, seed: int) -> list[Datum]:
    rng, sampler = random.Random(seed), local.sampler(None)
    own = sampler.logprobs([(*d.tokens, d.targets[-1]) for d in batch])
    return [
        replace(
            datum,
            logprobs=tuple(p + rng.gauss(0, 0.5) for p in row),
            advantages=tuple(rng.gauss(0, 1) for _ in row),
        )
        for datum, row in zip(batch, own, strict=True)
    ]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_policy_gradients_match_the_local_engine(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    local: LocalEngine,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    loss: Loss,
) -> None:
    assert loss.name in engine.settings.capabilities.losses
    policy = [with_advantages(batch, local, i) for i, batch in enumerate(batches[:3])]
    found = []
    for session in (engine.open(lora, None), local.open(lora, None)):
        steps = [session.submit(b, rated(adam, i), step=i, loss=loss) for i, b in enumerate(policy)]
        found.append([step.result() for step in steps])
        session.close()
    for there, here in zip(*found, strict=True):
        assert there.loss == pytest.approx(here.loss, abs=1e-3)
        assert there.grad_norm == pytest.approx(here.grad_norm, rel=1e-3)
    assert {row.loss_fn for row in server.steps(newest(server))} == {loss.name}


def test_weights_saved_for_a_sampler_are_the_sessions_and_expire_soon(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    local: LocalEngine,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    prompts: list[tuple[int, ...]],
    tmp_path: Path,
) -> None:
    session, same = engine.open(lora, None), local.open(lora, None)
    session.submit(batches[0], adam, step=0)
    weights = session.save_weights_for_sampler(tmp_path, step=1)
    saved = next(row for row in reversed(server.records()) if isinstance(row, Saved))
    assert (saved.path, saved.kind, saved.ttl_seconds) == (weights.location, "sampler_weights", SAMPLER_TTL_S)
    same.submit(batches[0], adam, step=0).result()
    wanted = local.sampler(same.save_weights_for_sampler(tmp_path / "here", step=1)).logprobs(prompts)
    for found, row in zip(engine.sampler(weights).logprobs(prompts), wanted, strict=True):
        assert found == pytest.approx(row, abs=1e-3)
    assert session.submit(batches[1], adam, step=1).result().tokens


def test_a_state_is_opened_without_its_optimizer(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    tmp_path: Path,
) -> None:
    session = engine.open(lora, None)
    session.submit(batches[0], adam, step=0).result()
    saved = session.save(tmp_path, step=1)
    restored = [
        engine.open(lora, saved.state, optimizer=kept).submit(batches[1], adam, step=0).result()
        for kept in (True, False)
    ]
    assert restored[0].loss == pytest.approx(restored[1].loss, abs=1e-4)
    assert engine.open(lora, saved.state, optimizer=False).tip is None
