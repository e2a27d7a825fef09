"""Steps and saves are sent to a server at once with every setting, and waited for later."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from tinker import types

from core.engines import CROSS_ENTROPY, AdamParams, Datum, LoraSpec, SamplerRef, SaveLabel, StateRef
from core.engines.local import LocalEngine
from core.engines.tinker import TinkerEngine, TinkerSettings
from core.engines.tinker.checkpoints import require_path, sampler_ref, save_name, saved_step
from core.engines.tinker.session import SubmittedStep, TinkerSession, grad_norm
from core.errors import ConfigError, DataError, ModelError, StageError
from tests.core.engines.tinker.conftest import MODEL, MakeEngine, rated
from tests.servers import tinker
from tests.servers.tinker_records import Created, batch_hash

Batches = list[list[Datum]]


def newest(server: tinker.TinkerServer) -> str:
    """The newest training model."""
    return next(row.model for row in reversed(server.records()) if isinstance(row, Created))


def test_losses_and_norms_match_the_local_engine(
    engine: TinkerEngine, local: LocalEngine, lora: LoraSpec, adam: AdamParams, batches: Batches
) -> None:
    found = []
    for session in (engine.open(lora, None), local.open(lora, None)):
        found.append([session.submit(b, rated(adam, i), step=i).result() for i, b in enumerate(batches)])
        session.close()
    for there, here in zip(*found, strict=True):
        assert there.loss == pytest.approx(here.loss, abs=1e-3)
        assert there.grad_norm == pytest.approx(here.grad_norm, rel=1e-3)
        assert there.tokens == here.tokens


def test_every_setting_is_sent_with_every_step(
    engine: TinkerEngine, server: tinker.TinkerServer, lora: LoraSpec, batches: Batches
) -> None:
    session = engine.open(lora, None)
    sent = [AdamParams(1e-3 / (i + 1), 0.8, 0.9, 1e-6, 0.25, 0.5 * i) for i in range(3)]
    for i, adam in enumerate(sent):
        session.submit(batches[i], adam, step=i).result()
    rows = server.steps(newest(server))
    names = ("learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm")
    assert [AdamParams(*(getattr(row, name) for name in names)) for row in rows] == sent
    assert [(row.step, row.batch) for row in rows] == [(i, batch_hash(batches[i])) for i in range(3)]
    assert {row.loss_fn for row in rows} == {"cross_entropy"}


def test_the_adapter_has_the_configured_settings(engine: TinkerEngine, server: tinker.TinkerServer) -> None:
    engine.open(LoraSpec(3, 32.0, 0.0, seed=77, train_mlp=False), None).close()
    made = next(row for row in reversed(server.records()) if isinstance(row, Created))
    assert (made.base_model, made.rank, made.seed) == (MODEL, 3, 77)
    assert (made.train_mlp, made.train_attn, made.train_unembed) == (False, True, False)


@pytest.mark.parametrize(
    ("message", "lora"),
    [("alpha is 16", LoraSpec(4, 16.0, 0.0, 1)), ("dropout is 0.1", LoraSpec(4, 32.0, 0.1, 1))],
)
def test_settings_that_the_protocol_lacks_are_rejected(
    engine: TinkerEngine, message: str, lora: LoraSpec
) -> None:
    with pytest.raises(ConfigError, match=f"student.lora.{message}, but the Tinker protocol does not have"):
        engine.open(lora, None)


def test_a_rejected_adapter_is_not_a_passing_error(
    engine: TinkerEngine, server: tinker.TinkerServer, lora: LoraSpec
) -> None:
    server.fail("user_error", on="create_model", first=1)
    with pytest.raises(StageError, match=r"^the server refused a new adapter: the server was told to refuse"):
        engine.open(lora, None)


def test_submit_does_not_wait(
    engine: TinkerEngine, server: tinker.TinkerServer, lora: LoraSpec, adam: AdamParams, batches: Batches
) -> None:
    session = engine.open(lora, None)
    server.pause()
    began = time.monotonic()
    pending = [session.submit(batches[i], adam, step=i) for i in range(2)]
    assert time.monotonic() - began < 1
    assert server.steps(newest(server)) == []
    server.resume()
    assert [step.result().tokens for step in pending] == [sum(len(d.tokens) for d in b) for b in batches[:2]]


def test_an_empty_batch_is_rejected(engine: TinkerEngine, lora: LoraSpec, adam: AdamParams) -> None:
    with pytest.raises(DataError, match="batch of step 3 is empty"):
        engine.open(lora, None).submit([], adam, step=3)


def cycles_of_two_segments(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
) -> int:
    """Take ten steps and save, twice, with two steps in flight; return the server's cycles."""
    session = engine.open(lora, None)
    for segment in range(2):
        waiting = []
        for step in range(10 * segment, 10 * segment + 10):
            waiting.append(session.submit(batches[step % 8], adam, step=step))
            if len(waiting) == 2:
                waiting.pop(0).result()
        session.save(folder / str(segment), step=10 * segment + 10)
        [last.result() for last in waiting]
    session.close()
    rows = server.steps(newest(server))
    assert [row.step for row in rows] == list(range(20))
    return rows[-1].cycle - rows[0].cycle + 1


def test_ten_steps_and_a_save_take_at_most_eleven_cycles(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
) -> None:
    """A client that waits for each step needs two cycles a step, however long a cycle is.

    A loaded machine may be too slow for a short cycle, so that longer ones are tried.
    """
    used = []
    for seconds in (0.1, 0.4, 1.6):
        server.cycle(seconds)
        used.append(cycles_of_two_segments(engine, server, lora, adam, batches, folder / str(seconds)))
        if used[-1] <= 22:
            break
    assert used[-1] <= 22, used


def test_a_save_creates_both_paths_with_one_name(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
) -> None:
    session = engine.open(lora, None)
    session.submit(batches[0], adam, step=0)
    saved = session.save(folder, step=1, label=SaveLabel("0123456789abcdef99", "writer-7"))
    run = newest(server)
    name = saved.state.location.rpartition("/")[2]
    assert name.startswith("understudy-0123456789abcdef-step000001-writer7-")
    assert saved.state.location == f"tinker://{run}/weights/{name}"
    assert saved.sampler.location == f"tinker://{run}/sampler_weights/{name}"
    rows = [row for row in server.saves() if row.model == run]
    assert {(row.kind, row.step, row.ttl_seconds) for row in rows} == {
        ("weights", 1, 7 * 24 * 3600),
        ("sampler_weights", 1, 7 * 24 * 3600),
    }
    assert engine.refs(folder) == (saved.state, saved.sampler)


def test_a_save_can_have_no_expiry(
    make_engine: MakeEngine, server: tinker.TinkerServer, lora: LoraSpec, folder: Path
) -> None:
    make_engine(settings=TinkerSettings(checkpoint_ttl_days=None)).open(lora, None).save(folder, step=0)
    assert [row.ttl_seconds for row in server.saves()[-2:]] == [None, None]


def test_repeating_a_save_does_not_collide(engine: TinkerEngine, lora: LoraSpec, folder: Path) -> None:
    session = engine.open(lora, None)
    label = SaveLabel("key", "writer")
    first, second = (session.save(folder, step=0, label=label) for _ in range(2))
    assert first.state != second.state
    assert first.digest != second.digest
    assert engine.refs(folder) == (second.state, second.sampler)


def test_the_tip_is_the_checkpoint_until_the_next_step(
    engine: TinkerEngine, lora: LoraSpec, adam: AdamParams, batches: Batches, folder: Path
) -> None:
    session = engine.open(lora, None)
    tips = [session.tip]
    pending = session.submit(batches[0], adam, step=0)
    tips.append(session.tip)
    saved = session.save(folder, step=1)
    pending.result()
    tips.append(session.tip)
    session.submit(batches[1], adam, step=1).result()
    tips.append(session.tip)
    assert tips == [None, None, saved, None]
    assert engine.open(lora, saved.state).tip == saved


def test_steps_that_a_save_waited_for_still_return_results(
    engine: TinkerEngine, lora: LoraSpec, adam: AdamParams, batches: Batches, folder: Path
) -> None:
    session = engine.open(lora, None)
    pending = [session.submit(batches[i], adam, step=i) for i in range(2)]
    session.save(folder, step=2)
    session.close()
    assert all(step.result().loss > 0 for step in pending)


def test_state_and_sampler_paths_cannot_be_mixed_up(engine: TinkerEngine, lora: LoraSpec) -> None:
    require_path(StateRef("tinker://run/weights/a"))
    require_path(SamplerRef("tinker://run/sampler_weights/a"))
    for make, path in (
        (StateRef, "tinker://run/sampler_weights/a"),
        (SamplerRef, "tinker://run/weights/a"),
        (StateRef, "tinker://run/a"),
        (SamplerRef, "tinker://run/external_weights/a"),
    ):
        with pytest.raises(ModelError, match="is not the path of a"):
            require_path(make(path))


def test_a_sampler_path_without_its_kind_is_completed() -> None:
    assert sampler_ref("tinker://run/name").location == "tinker://run/sampler_weights/name"
    assert sampler_ref("tinker://run/sampler_weights/name").location == "tinker://run/sampler_weights/name"


def test_the_step_is_read_only_from_our_names() -> None:
    assert saved_step(save_name(SaveLabel("ab/c", "w_1"), 40)) == 40
    assert saved_step(save_name(None, 7)) == 7
    assert saved_step("checkpoint-40") is None


def test_a_state_of_another_adapter_or_model_is_rejected(
    engine: TinkerEngine, make_engine: MakeEngine, lora: LoraSpec, folder: Path
) -> None:
    saved = engine.open(lora, None).save(folder, step=0)
    with pytest.raises(ModelError, match="of another rank: it has 4, this run 8"):
        engine.open(replace(lora, rank=8), saved.state)
    with pytest.raises(ModelError, match="of another mlp switch"):
        engine.open(replace(lora, train_mlp=False), saved.state)


def test_a_folder_of_another_server_is_rejected(engine: TinkerEngine, lora: LoraSpec, folder: Path) -> None:
    engine.open(lora, None).save(folder, step=0)
    file = folder / "tinker.json"
    file.write_text(file.read_text().replace(engine.server, "http://elsewhere"))
    with pytest.raises(ModelError, match="is on http://elsewhere, not on"):
        engine.refs(folder)
    with pytest.raises(ModelError, match=r"tinker\.json is missing"):
        engine.refs(folder / "nothing")


def test_closing_leaves_no_request_in_flight(
    engine: TinkerEngine, server: tinker.TinkerServer, lora: LoraSpec, adam: AdamParams, batches: Batches
) -> None:
    session = engine.open(lora, None)
    server.pause()
    pending = session.submit(batches[0], adam, step=0)
    session.close()
    assert pending.forward.done()
    assert pending.update.done()
    with pytest.raises(StageError, match="was closed"):
        pending.result()
    with pytest.raises(StageError, match="was closed"):
        session.submit(batches[0], adam, step=0)
    assert server.steps(newest(server)) == []


class Answered:
    """A session's step with an answer from the test, in the SDK's types."""

    def __init__(self, session: TinkerSession, batch: Sequence[Datum]) -> None:
        self.session, self.step = (
            session,
            SubmittedStep(session, 0, batch, CROSS_ENTROPY, 1e-3, Future(), Future()),
        )

    def loss(self, logprobs: list[list[float]], metrics: dict[str, float]) -> float:
        outputs = [{"logprobs": types.TensorData(data=row, dtype="float32")} for row in logprobs]
        output = types.ForwardBackwardOutput("scalar", outputs, metrics)
        return self.session._loss(output, self.step)


@pytest.fixture
def answered(engine: TinkerEngine, lora: LoraSpec) -> Answered:
    return Answered(engine.open(lora, None), [Datum((1, 2), (2, 3), (0.0, 0.5)), Datum((1,), (2,), (0.25,))])


def test_a_server_that_normalizes_otherwise_is_logged_once(
    answered: Answered, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert answered.loss([[-9.0, -2.0], [-4.0]], {"loss:sum": 3.0}) == pytest.approx(2.0)
    assert caplog.text.count("the server's loss at step 0 is 3, the weighted sum over its") == 1


def test_without_log_probabilities_the_servers_loss_is_used(answered: Answered) -> None:
    assert answered.loss([], {"loss:sum": 3.0}) == 3.0
    assert answered.loss([[0.0, -2.0], [-4.0]], {}) == pytest.approx(2.0)
    with pytest.raises(StageError, match="neither a loss nor log-probabilities"):
        answered.loss([], {})


def test_a_loss_that_is_not_finite_ends_the_session(answered: Answered) -> None:
    with pytest.raises(
        StageError, match=r"training stopped at step 0: loss nan; .* resume from the last save"
    ):
        answered.loss([[0.0, math.nan], [0.0]], {})
    with pytest.raises(StageError, match="training stopped at step 0"):
        answered.session.submit([Datum((1,), (2,), (1.0,))], AdamParams(1e-3, 0.9, 0.95, 1e-8, 0, 0), step=1)


@pytest.mark.parametrize(
    ("metrics", "norm"),
    [
        (None, None),
        ({}, None),
        ({"grad_norm:mean": 2.0}, 2.0),
        ({"skyrl.ai/learning_rate": 1.0, "skyrl.ai/grad_norm": 3.0}, 3.0),
        ({"grad_norm": math.nan}, None),
        ({"lr": 1.0}, None),
    ],
)
def test_a_missing_norm_is_none(metrics: dict[str, float] | None, norm: float | None) -> None:
    assert grad_norm(types.OptimStepResponse(metrics=metrics)) == norm
