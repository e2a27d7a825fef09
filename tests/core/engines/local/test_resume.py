"""A restored run equals the uninterrupted run bit for bit."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from core.base_model import ModelSource
from core.engines import AdamParams, Checkpoint, Datum, LoraSpec, SamplerRef, StateRef
from core.engines.local import LocalEngine
from core.errors import ModelError
from tests.core.engines.local.conftest import MakeBatch, PlainLogits

pytestmark = pytest.mark.integration

DROPPING = LoraSpec(rank=4, alpha=8.0, dropout=0.1, seed=21)
STEPS = 5


def straight(
    engine: LocalEngine, batches: list[list[Datum]], adam: AdamParams, folder: Path
) -> list[Checkpoint]:
    """Train without stopping, saving after every step."""
    session, made = engine.open(DROPPING, None), []
    for step, batch in enumerate(batches):
        session.submit(batch, adam, step=step).result()
        made.append(session.save(folder / str(step + 1), step=step + 1))
    return made


def continued(
    source: ModelSource, folder: str, adam: AdamParams, batches: list[list[Datum]], start: int
) -> str:
    """Continue from a state to the end and return the adapter's digest; runs in another process."""
    engine = LocalEngine(source, device="cpu", train_dtype="float32", threads=1)
    session = engine.open(DROPPING, StateRef(folder))
    for step in range(start, len(batches)):
        session.submit(batches[step], adam, step=step).result()
    return session.save(Path(folder).parent / "continued", step=len(batches)).digest


def test_restoring_at_every_boundary_gives_the_same_adapter(
    engine: LocalEngine, make_batch: MakeBatch, adam: AdamParams, tmp_path: Path
) -> None:
    batches = [make_batch(step, rows=3) for step in range(STEPS)]
    made = straight(engine, batches, adam, tmp_path)
    assert len({checkpoint.digest for checkpoint in made}) == STEPS
    for start in range(1, STEPS):
        assert (
            continued(engine.local_model, made[start - 1].state.location, adam, batches, start)
            == made[-1].digest
        )


def test_a_new_process_continues_bit_for_bit(
    engine: LocalEngine, make_batch: MakeBatch, adam: AdamParams, tmp_path: Path
) -> None:
    batches = [make_batch(step, rows=3) for step in range(STEPS)]
    made = straight(engine, batches, adam, tmp_path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        digest = pool.apply(continued, (engine.local_model, made[1].state.location, adam, batches, 2))
    assert digest == made[-1].digest


def test_initial_weights_depend_only_on_the_seed(engine: LocalEngine, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = engine.open(DROPPING, None).save(tmp_path / "a", step=0)
    torch.manual_seed(2)
    second = engine.open(DROPPING, None).save(tmp_path / "b", step=0)
    other = LoraSpec(rank=4, alpha=8.0, dropout=0.1, seed=22)
    assert first.digest == second.digest
    assert engine.open(other, None).save(tmp_path / "c", step=0).digest != first.digest


def test_tip_is_the_checkpoint_whose_weights_the_session_holds(
    engine: LocalEngine, make_batch: MakeBatch, adam: AdamParams, tmp_path: Path
) -> None:
    session = engine.open(DROPPING, None)
    tips = [session.tip]
    saved = session.save(tmp_path / "s", step=0)
    tips.append(session.tip)
    session.submit(make_batch(1), adam, step=0).result()
    tips.append(session.tip)
    assert tips == [None, saved, None]
    assert engine.open(DROPPING, saved.state).tip == saved


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_adapter_is_in_pefts_layout_and_names_the_configured_model(
    engine: LocalEngine, make_batch: MakeBatch, adam: AdamParams, tmp_path: Path, plain_logits: PlainLogits
) -> None:
    source = ModelSource(engine.local_model.folder, engine.local_model.digest, "package://some/model.gguf")
    session = LocalEngine(source, device="cpu").open(DROPPING, None)
    for step in range(3):
        session.submit(make_batch(step), adam, step=step).result()
    checkpoint = session.save(tmp_path / "saved", step=3)
    assert checkpoint.sampler == SamplerRef(str(tmp_path / "saved" / "adapter"))
    written = json.loads(Path(checkpoint.sampler.location, "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "package://some/model.gguf"
    base = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32)
    tokens = list(range(1, 30))
    with torch.no_grad():
        untrained = plain_logits(base, tokens)
        loaded = plain_logits(PeftModel.from_pretrained(base, checkpoint.sampler.location).eval(), tokens)
    wanted = loaded[:-1].log_softmax(1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    found = engine.sampler(checkpoint.sampler).logprobs([tokens])[0]
    assert torch.allclose(torch.tensor(found), wanted, atol=1e-4)
    assert not torch.allclose(untrained, loaded, atol=1e-2)


def test_a_state_has_no_pickles_and_records_its_fingerprint(
    engine: LocalEngine, make_batch: MakeBatch, adam: AdamParams, tmp_path: Path
) -> None:
    session = engine.open(DROPPING, None)
    session.submit(make_batch(1), adam, step=0).result()
    session.save(tmp_path, step=1)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "optimizer.safetensors",
        "random.safetensors",
        "state.json",
    }
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["step"], state["updates"]) == (1, 1)
    assert {"torch", "transformers", "peft", "device", "train_dtype", "threads"} <= state[
        "fingerprint"
    ].keys()
    moments = load_file(tmp_path / "optimizer.safetensors")
    assert len(moments) == 3 * len(session._weights)


def test_a_state_of_another_adapter_or_model_is_rejected(
    engine: LocalEngine, lora: LoraSpec, tmp_path: Path
) -> None:
    saved = engine.open(lora, None).save(tmp_path, step=0)
    with pytest.raises(ModelError, match="another LoRA settings"):
        engine.open(DROPPING, saved.state)
    other = LocalEngine(ModelSource(engine.local_model.folder, "0" * 64, "other"), device="cpu")
    with pytest.raises(ModelError, match="another base model"):
        other.open(lora, saved.state)


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors", "adapter/adapter_model.safetensors"])
def test_a_state_with_a_missing_file_is_rejected_by_name(
    engine: LocalEngine, lora: LoraSpec, tmp_path: Path, name: str
) -> None:
    saved = engine.open(lora, None).save(tmp_path, step=0)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name.rsplit("/", maxsplit=1)[-1].replace(".", r"\.")):
        engine.open(lora, saved.state)


def test_training_does_not_change_an_open_sampler(
    engine: LocalEngine, make_batch: MakeBatch, adam: AdamParams, tmp_path: Path
) -> None:
    session = engine.open(DROPPING, None)
    sampler = engine.sampler(session.save(tmp_path, step=0).sampler)
    before = sampler.logprobs([range(1, 20)])
    session.submit(make_batch(1), adam, step=0).result()
    assert sampler.logprobs([range(1, 20)]) == before
