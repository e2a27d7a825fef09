"""Packing, the shared prefix and logits only at the loss change the speed, not the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from core.engines import AdamParams, Datum, LoraSpec
from core.engines.local import LocalEngine
from core.errors import ModelError, StageError
from tests.core.engines.local.conftest import ARCHITECTURES, MakeBatch, MakeModel

PlainLoss = Callable[[Any, Sequence[Datum]], torch.Tensor]
STILL = AdamParams(learning_rate=0.0, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0, grad_clip_norm=0.0)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def warmed(engine: LocalEngine, lora: LoraSpec, batch: list[Datum], adam: AdamParams) -> Any:
    """A session after one step: at the start B is zero, and A's gradient with it."""
    session = engine.open(lora, None)
    session.submit(batch, adam, step=0).result()
    return session


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("budget", [None, 40])
def test_loss_and_gradients_match_whole_rows_run_one_at_a_time(
    make_model: MakeModel,
    make_batch: MakeBatch,
    lora: LoraSpec,
    adam: AdamParams,
    plain_loss: PlainLoss,
    architecture: str,
    budget: int | None,
) -> None:
    engine = LocalEngine(
        make_model(architecture), device="cpu", train_dtype="float32", micro_batch_tokens=budget
    )
    session = warmed(engine, lora, make_batch(1), adam)
    batch, model = make_batch(2), session._backbone.model
    model.zero_grad()
    wanted = plain_loss(model, batch)
    wanted.backward()
    plain = gradients(model)
    result = session.submit(batch, STILL, step=1).result()
    found = gradients(model)
    assert result.loss == pytest.approx(wanted.item(), rel=1e-5)
    assert found.keys() == plain.keys()
    scale = torch.stack([grad.norm() for grad in plain.values()]).norm()
    difference = torch.stack([(found[name] - plain[name]).norm() for name in plain]).norm()
    assert scale > 0
    assert difference < 1e-5 * scale


@pytest.mark.parametrize(
    ("architecture", "rows", "logits"),
    [
        ("llama", "packed", "at the loss"),
        ("qwen3", "packed", "at the loss"),
        ("mistral", "packed", "at the loss"),
        ("gemma3_text", "packed", "at the loss"),
        ("granite", "packed", "full"),
        ("gemma2", "padded", "full"),
    ],
)
def test_each_architecture_uses_the_shortcuts_it_supports(
    make_model: MakeModel, lora: LoraSpec, architecture: str, rows: str, logits: str
) -> None:
    session = LocalEngine(make_model(architecture), device="cpu").open(lora, None)
    assert session._fingerprint["rows"] == rows
    assert session._fingerprint["logits"] == logits


def test_a_long_shared_prefix_gets_the_gradient_of_every_row(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec, adam: AdamParams, plain_loss: PlainLoss
) -> None:
    session = warmed(engine, lora, make_batch(1), adam)
    batch, model = make_batch(3, rows=12, prefix=300), session._backbone.model
    model.zero_grad()
    plain_loss(model, batch).backward()
    plain = gradients(model)
    session.submit(batch, STILL, step=1).result()
    for name, grad in gradients(model).items():
        assert torch.allclose(grad, plain[name], atol=1e-5 * float(plain[name].norm()))


def test_rows_without_weights_count_only_as_tokens(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec
) -> None:
    session, batch = engine.open(lora, None), make_batch(4)
    silent = Datum(batch[0].tokens, batch[0].targets, (0.0,) * len(batch[0].tokens))
    alone = session.submit(batch, STILL, step=0).result()
    both = session.submit([silent, *batch], STILL, step=0).result()
    assert both.loss == alone.loss
    assert both.tokens == alone.tokens + len(silent.tokens)


def test_a_weight_on_the_first_token_is_in_the_loss(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec, plain_loss: PlainLoss
) -> None:
    session = engine.open(lora, None)
    batch = [Datum(d.tokens, d.targets, (0.1,) * len(d.tokens)) for d in make_batch(5)]
    wanted = plain_loss(session._backbone.model, batch).item()
    assert session.submit(batch, STILL, step=0).result().loss == pytest.approx(wanted, rel=1e-5)


def test_training_reduces_the_loss(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec, adam: AdamParams
) -> None:
    session, batch = engine.open(lora, None), make_batch(6)
    losses = [session.submit(batch, adam, step=step).result().loss for step in range(20)]
    assert losses[-1] < 0.7 * losses[0]


def test_gradient_norm_is_reported_before_clipping(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec
) -> None:
    clipped = AdamParams(
        learning_rate=0.0, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0, grad_clip_norm=1e-3
    )
    free = engine.open(lora, None).submit(make_batch(7), STILL, step=0).result()
    session = engine.open(lora, None)
    result = session.submit(make_batch(7), clipped, step=0).result()
    assert result.grad_norm == free.grad_norm
    norm = torch.stack([grad.norm() for grad in gradients(session._backbone.model).values()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-4)


def test_a_loss_that_is_not_finite_stops_training_before_the_update(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec, adam: AdamParams
) -> None:
    session, batch = engine.open(lora, None), make_batch(8)
    broken = [
        Datum(d.tokens, d.targets, tuple(w * float("inf") if w else w for w in d.weights)) for d in batch
    ]
    before = [weight.clone() for weight in session._weights.values()]
    pending = session.submit(broken, adam, step=3)
    with pytest.raises(StageError, match=r"step 3.*learning rate below 0\.005"):
        pending.result()
    assert all(torch.equal(a, b) for a, b in zip(before, session._weights.values(), strict=True))


def test_dropout_depends_on_seed_and_step(
    engine: LocalEngine, make_batch: MakeBatch, adam: AdamParams
) -> None:
    batch = make_batch(9)
    lora = LoraSpec(rank=4, alpha=8.0, dropout=0.3, seed=5)
    session = warmed(engine, lora, batch, adam)
    first, other, again = (session.submit(batch, STILL, step=step).result().loss for step in (1, 2, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("attention", "mlp", "expected"),
    [(True, False, {"self_attn"}), (False, True, {"mlp"}), (True, True, {"self_attn", "mlp"})],
)
def test_the_configured_layers_are_trained(
    engine: LocalEngine, attention: bool, mlp: bool, expected: set[str]
) -> None:
    spec = LoraSpec(rank=2, alpha=4.0, dropout=0.0, seed=0, train_attention=attention, train_mlp=mlp)
    names = engine.open(spec, None)._weights
    assert {part for name in names for part in name.split(".") if part in {"self_attn", "mlp"}} == expected


def test_bf16_training_has_nearly_the_same_loss_and_reduces_it(
    engine: LocalEngine, make_batch: MakeBatch, lora: LoraSpec, adam: AdamParams
) -> None:
    batch = make_batch(10)
    session = LocalEngine(engine.local_model, device="cpu", train_dtype="bfloat16").open(lora, None)
    assert session._fingerprint["train_dtype"] == "bfloat16"
    exact = engine.open(lora, None).submit(batch, STILL, step=0).result()
    losses = [session.submit(batch, adam, step=step).result().loss for step in range(15)]
    assert losses[0] == pytest.approx(exact.loss, rel=0.02)
    assert losses[-1] < 0.8 * losses[0]
    assert {weight.dtype for weight in session._weights.values()} == {torch.float32}


def test_an_untied_output_layer_can_be_trained(
    make_model: MakeModel, make_batch: MakeBatch, adam: AdamParams, plain_loss: PlainLoss, tmp_path: Path
) -> None:
    spec = LoraSpec(rank=2, alpha=4.0, dropout=0.0, seed=0, train_unembed=True)
    engine, batch = LocalEngine(make_model("qwen3"), device="cpu", train_dtype="float32"), make_batch(11)
    session = warmed(engine, spec, batch, adam)
    assert any("lm_head" in name for name in session._weights)
    wanted = plain_loss(session._backbone.model, batch).item()
    assert session.submit(batch, STILL, step=1).result().loss == pytest.approx(wanted, rel=1e-5)
    restored = engine.open(spec, session.save(tmp_path, step=2).state)
    assert restored.submit(batch, STILL, step=2).result() == session.submit(batch, STILL, step=2).result()


def test_a_tied_output_layer_is_rejected(engine: LocalEngine) -> None:
    spec = LoraSpec(rank=2, alpha=4.0, dropout=0.0, seed=0, train_unembed=True)
    with pytest.raises(ModelError, match=r"set student\.lora\.unembed to false"):
        engine.open(spec, None)
