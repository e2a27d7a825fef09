"""Label probabilities equal those of whole sequences of a small real model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.base_model import resolve_model
from core.config import PromptsConfig, StudentConfig
from core.engines import Sampler
from core.engines.local import LocalEngine
from core.evaluation.predictions import Predictions
from core.evaluation.student_scores import ScoreSettings, add_reasoning, logsumexp, score_texts
from core.progress import Silent
from core.prompts import load_prompts
from core.records import Example
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer

REPO = Path(__file__).resolve().parents[3]
EXAMPLES = [
    Example("a", "You have won a prize", 1),
    Example("b", "See you at lunch, bring the papers", 0),
    Example("c", "x", 0),
]


@pytest.fixture(scope="module")
def sampler(tiny_model: Path) -> Iterator[Sampler]:
    found = LocalEngine(resolve_model(str(tiny_model)), device="cpu").sampler(None)
    yield found
    found.close()


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny_model, {})


def encoder(tokenizer: ChatTokenizer, target: str) -> Encoder:
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    config = StudentConfig.model_validate({"target": target, "max_length": 256})
    return Encoder(tokenizer, prompts, None, EncodeSettings.of(config))


def by_hand(sampler: Sampler, e: Encoder, example: Example) -> tuple[float, float]:
    """P(0) and P(1) directly after the prompt, from one whole sequence at a time."""
    prompt = e.prompt_with_room(e.tokenizer.encode_texts([example.text])[0], e.label_tokens).tokens
    out = []
    for label in (0, 1):
        sums = []
        for choice in e.choices()[label]:
            logprobs = sampler.logprobs([[*prompt, *choice]])[0]
            sums.append(sum(logprobs[-len(choice) :]))
        out.append(math.exp(logsumexp(sums)))
    return out[0], out[1]


def scored(sampler: Sampler, e: Encoder, settings: ScoreSettings) -> Predictions:
    ids, texts = zip(*((example.id, example.text) for example in EXAMPLES), strict=True)
    return score_texts(sampler, e, ids, texts, settings, Silent())


@pytest.mark.parametrize("target", ["label_only", "label_first"])
def test_the_label_block_is_scored_directly_after_the_prompt(
    sampler: Sampler, tokenizer: ChatTokenizer, target: str
) -> None:
    e = encoder(tokenizer, target)
    found = scored(sampler, e, ScoreSettings(8))
    for i, example in enumerate(EXAMPLES):
        zero, one = by_hand(sampler, e, example)
        assert found.probability[i] == pytest.approx(one / (zero + one), rel=1e-3)
        assert found.off_label_mass[i] == pytest.approx(1 - zero - one, abs=1e-6)
    assert found.invalid.tolist() == (found.off_label_mass > 0.5).tolist()
    assert found.ids == tuple(example.id for example in EXAMPLES)
    assert found.gold is None


def test_reasoning_is_generated_for_the_first_rows_and_changes_no_probability(
    sampler: Sampler, tokenizer: ChatTokenizer
) -> None:
    e = encoder(tokenizer, "label_first")
    plain = scored(sampler, e, ScoreSettings(8))
    said = scored(sampler, e, ScoreSettings(8, reasoning_rows=2))
    assert [g.text is not None for g in said.generated] == [True, True, False]
    assert said.probability.tolist() == plain.probability.tolist()
    texts = [example.text for example in EXAMPLES]
    added = add_reasoning(sampler, e, texts, plain, ScoreSettings(8, reasoning_rows=2), Silent())
    assert added.generated == said.generated


def test_unfinished_reasoning_has_no_label_probability(sampler: Sampler, tokenizer: ChatTokenizer) -> None:
    found = scored(sampler, encoder(tokenizer, "reason_first"), ScoreSettings(6))
    assert np.isnan(found.probability).all()
    assert found.invalid.all()
    assert found.off_label_mass.tolist() == [1.0, 1.0, 1.0]
    assert all(g.text and g.finish == "length" for g in found.generated)


def test_logsumexp_accepts_minus_infinity() -> None:
    assert logsumexp([-math.inf, -math.inf]) == -math.inf
    assert logsumexp([0.0, -math.inf]) == 0.0
