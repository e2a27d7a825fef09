"""Values and gradients of policy losses match their definitions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.engines import CROSS_ENTROPY, AdamParams, Datum, LoraSpec, Loss
from core.engines.local import LocalEngine
from core.errors import DataError
from tests.core.engines.local.conftest import MakeBatch, MakeModel, PlainLogits
from tests.core.engines.local.test_loss import STILL, gradients, warmed

LOSSES = (Loss("importance_sampling"), Loss("ppo", 0.8, 1.2), Loss("cispo", 0.8, 1.2))
PlainPolicy = Callable[[Any, Sequence[Datum], Loss], torch.Tensor]


def policy_batch(batch: Sequence[Datum], seed: int, logprobs: Sequence[torch.Tensor]) -> list[Datum]:
    """The batch with advantages of both signs, sampled by a policy near the model's own `logprobs`."""
    rng = random.Random(seed)
    return [
        replace(
            datum,
            logprobs=tuple(float(p) + rng.gauss(0, 0.4) for p in row),
            advantages=tuple(rng.gauss(0, 1) for _ in row),
        )
        for datum, row in zip(batch, logprobs, strict=True)
    ]


def logprobs_of(plain_logits: PlainLogits, model: Any, datum: Datum) -> torch.Tensor:
    targets = torch.tensor(datum.targets)[:, None]
    return plain_logits(model, datum.tokens).log_softmax(1).gather(1, targets)[:, 0]


@pytest.fixture
def plain_policy(plain_logits: PlainLogits) -> PlainPolicy:
    """The losses by their definitions, one whole row after another."""

    def run(model: Any, batch: Sequence[Datum], loss: Loss) -> torch.Tensor:
        total = torch.zeros(())
        for datum in batch:
            now = logprobs_of(plain_logits, model, datum)
            advantages, weights = torch.tensor(datum.advantages), torch.tensor(datum.weights)
            ratio = torch.exp(now - torch.tensor(datum.logprobs))
            clipped = torch.clamp(ratio, loss.clip_low, loss.clip_high)
            gain = {
                "importance_sampling": ratio * advantages,
                "ppo": torch.min(ratio * advantages, clipped * advantages),
                "cispo": clipped.detach() * now * advantages,
            }[loss.name]
            total = total - (gain * weights).sum()
        return total

    return run


@pytest.mark.parametrize("architecture", ["llama", "granite", "gemma2"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_values_and_gradients_match_the_definition(
    make_model: MakeModel,
    make_batch: MakeBatch,
    plain_logits: PlainLogits,
    plain_policy: PlainPolicy,
    lora: LoraSpec,
    adam: AdamParams,
    loss: Loss,
    architecture: str,
) -> None:
    engine = LocalEngine(make_model(architecture), device="cpu", train_dtype="float32")
    session = warmed(engine, lora, make_batch(1), adam)
    rows, model = make_batch(2), session._backbone.model
    with torch.no_grad():
        batch = policy_batch(rows, 3, [logprobs_of(plain_logits, model, datum) for datum in rows])
    model.zero_grad()
    wanted = plain_policy(model, batch, loss)
    wanted.backward()
    plain = gradients(model)
    result = session.submit(batch, STILL, step=1, loss=loss).result()
    found = gradients(model)
    assert result.loss == pytest.approx(wanted.item(), rel=1e-4, abs=1e-6)
    assert found.keys() == plain.keys()
    scale = torch.stack([grad.norm() for grad in plain.values()]).norm()
    difference = torch.stack([(found[name] - plain[name]).norm() for name in plain]).norm()
    assert scale > 0
    assert difference < 1e-5 * scale


def test_all_policy_gradients_are_equal_before_anything_is_clipped(
    engine: LocalEngine, make_batch: MakeBatch, plain_logits: PlainLogits, lora: LoraSpec
) -> None:
    """At the weights that sampled, p/q is 1, so that each equals the policy gradient of REINFORCE."""
    norms = []
    for loss in LOSSES:
        session, rows = engine.open(lora, None), make_batch(4)
        with torch.no_grad():
            own = [logprobs_of(plain_logits, session._backbone.model, datum) for datum in rows]
        batch = [
            replace(datum, logprobs=tuple(row.tolist()), advantages=(1.5,) * len(row))
            for datum, row in zip(rows, own, strict=True)
        ]
        norms.append(session.submit(batch, STILL, step=0, loss=loss).result().grad_norm)
    crossed = [replace(d, weights=tuple(1.5 * w for w in d.weights)) for d in make_batch(4)]
    norms.append(engine.open(lora, None).submit(crossed, STILL, step=0).result().grad_norm)
    assert norms == pytest.approx([norms[-1]] * 4, rel=1e-4)


def test_a_policy_gradient_step_makes_rewarded_tokens_likelier(
    engine: LocalEngine, make_batch: MakeBatch, plain_logits: PlainLogits, lora: LoraSpec, adam: AdamParams
) -> None:
    session, rows = engine.open(lora, None), make_batch(5, rows=2)
    model = session._backbone.model

    def likely() -> list[float]:
        with torch.no_grad():
            return [
                float((logprobs_of(plain_logits, model, d) * (torch.tensor(d.weights) > 0)).sum())
                for d in rows
            ]

    before = likely()
    for step in range(8):
        with torch.no_grad():
            own = [logprobs_of(plain_logits, model, datum).tolist() for datum in rows]
        batch = [
            replace(datum, logprobs=tuple(row), advantages=(sign,) * len(row))
            for datum, row, sign in zip(rows, own, (1.0, -1.0), strict=True)
        ]
        session.submit(batch, adam, step=step, loss=LOSSES[1]).result()
    after = likely()
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_a_policy_gradient_without_advantages_is_rejected(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec
) -> None:
    with pytest.raises(DataError, match="ppo needs a log-probability and an advantage"):
        engine.open(lora, None).submit(make_batch(6), STILL, step=0, loss=LOSSES[1]).result()


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, *LOSSES], ids=lambda loss: loss.name)
@pytest.mark.parametrize("advantage", [2.0, -2.0])
@pytest.mark.parametrize("gap", [-0.5, 0.0, 0.5])
def test_the_scalar_term_equals_the_tensor_term(loss: Loss, advantage: float, gap: float) -> None:
    from core.engines.local.session import LossTerms

    at = [torch.tensor([x]) for x in (0.7, -1.5 - gap, advantage)]
    needs = at[1:] if loss.is_policy else []
    terms = LossTerms(loss, torch.tensor([0]), torch.tensor([3]), at[0], *needs)
    values, _ = terms.at(torch.tensor([1.5]), slice(None))
    assert float(values[0]) == pytest.approx(0.7 * loss.term(-1.5, -1.5 - gap, advantage))


def test_weights_saved_for_a_sampler_are_those_of_the_session(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec, adam: AdamParams, tmp_path: Any
) -> None:
    session = warmed(engine, lora, make_batch(1), adam)
    saved = session.save(tmp_path / "whole", step=1)
    saved_weights = session.save_weights_for_sampler(tmp_path / "weights", step=1)
    rows = [[1, 2, 3, 4, 5]]
    assert engine.sampler(saved_weights).logprobs(rows) == engine.sampler(saved.sampler).logprobs(rows)
    assert session.tip == saved


def test_a_state_can_be_opened_without_its_optimizer(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec, adam: AdamParams, tmp_path: Any
) -> None:
    session = warmed(engine, lora, make_batch(1), adam)
    saved = session.save(tmp_path / "whole", step=1)
    opened = engine.open(replace(lora, seed=99), saved.state, optimizer=False)
    assert opened.tip is None
    assert opened._optimizer.state == {}
    assert opened.save(tmp_path / "again", step=0).digest == saved.digest
