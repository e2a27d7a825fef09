"""Scores match those of each row run whole and alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from core.engines import SamplerRef, choice_plan
from core.engines.local import LocalEngine
from core.errors import DataError, ModelError
from tests.core.engines.local.conftest import ARCHITECTURES, VOCABULARY, MakeModel, PlainLogits

CHOICES: dict[str, list[tuple[int, ...]]] = {
    "single tokens": [(32,), (33,), (7,)],
    "all but the last token shared": [(5, 6, 32), (5, 6, 33)],
    "different heads": [(5, 6, 32), (9, 8), (5, 33), (40,)],
    "one choice begins another": [(5,), (5, 6), (5, 6, 7)],
    "the same choice twice": [(5, 6), (5, 6)],
}


def random_prompts(seed: int, rows: int, prefix: int) -> list[list[int]]:
    rng = random.Random(seed)
    begin = [rng.randrange(VOCABULARY) for _ in range(prefix)]
    return [begin + [rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, 40))] for _ in range(rows)]


def by_definition(model: Any, plain: PlainLogits, prompt: Sequence[int], choice: Sequence[int]) -> float:
    with torch.no_grad():
        logprobs = plain(model, [*prompt, *choice]).log_softmax(1)
    return sum(float(logprobs[len(prompt) - 1 + k, token]) for k, token in enumerate(choice))


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("llama", kind) for kind in CHOICES]
    + [(name, "different heads") for name in ARCHITECTURES if name != "llama"],
)
def test_scores_match_whole_rows(
    make_model: MakeModel, plain_logits: PlainLogits, architecture: str, kind: str
) -> None:
    source, choices = make_model(architecture), CHOICES[kind]
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32).eval()
    prompts = random_prompts(3, rows=7, prefix=30)
    scores = LocalEngine(source, device="cpu").sampler(None).score(prompts, choices)
    assert scores.exact
    for prompt, row in zip(prompts, scores.logprobs, strict=True):
        wanted = [by_definition(model, plain_logits, prompt, choice) for choice in choices]
        assert row == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("prefix", [0, 3, 50])
def test_sequences_are_scored_whole_with_any_shared_prefix(
    engine: LocalEngine, plain_logits: PlainLogits, prefix: int
) -> None:
    sequences = [*random_prompts(4, rows=5, prefix=prefix), [7], [7, 8]][: 5 if prefix == 50 else 7]
    model = AutoModelForCausalLM.from_pretrained(engine.local_model.folder, dtype=torch.float32).eval()
    found = engine.sampler(None).logprobs(sequences)
    for tokens, row in zip(sequences, found, strict=True):
        with torch.no_grad():
            logprobs = plain_logits(model, tokens).log_softmax(1)
        wanted = [float(logprobs[i, token]) for i, token in enumerate(tokens[1:])]
        assert row == pytest.approx(wanted, abs=1e-4)


def test_small_packs_give_the_same_scores(make_model: MakeModel) -> None:
    prompts, choices = random_prompts(5, rows=20, prefix=25), CHOICES["different heads"]
    wide = LocalEngine(make_model("llama"), device="cpu").sampler(None).score(prompts, choices)
    narrow = LocalEngine(make_model("llama"), device="cpu", micro_batch_tokens=30).sampler(None)
    for a, b in zip(wide.logprobs, narrow.score(prompts, choices).logprobs, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_identical_prompts_have_identical_scores(engine: LocalEngine) -> None:
    prompt = random_prompts(6, rows=1, prefix=10)[0]
    scores = engine.sampler(None).score([prompt] * 3, [(1,), (2,)]).logprobs
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] == pytest.approx(scores[2], abs=1e-6)


def test_no_prompts_give_no_scores(engine: LocalEngine) -> None:
    sampler = engine.sampler(None)
    assert sampler.score([], [(1,)]).logprobs == ()
    assert sampler.score([[1, 2]], []).logprobs == ((),)
    assert sampler.logprobs([]) == []


def test_an_empty_prompt_or_choice_is_rejected_with_its_index(engine: LocalEngine) -> None:
    sampler = engine.sampler(None)
    with pytest.raises(DataError, match="prompt 1 has no tokens"):
        sampler.score([[1], []], [(1,)])
    with pytest.raises(DataError, match="choice 0 has no tokens"):
        sampler.score([[1]], [()])


def test_progress_counts_prompts_to_the_last(engine: LocalEngine) -> None:
    seen: list[tuple[int, int]] = []
    engine.sampler(None).score(
        random_prompts(7, 6, 10),
        CHOICES["different heads"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == list(range(1, 7))
    assert {total for _, total in seen} == {6}


def test_choices_that_share_all_but_the_last_token_need_one_pass() -> None:
    assert choice_plan(CHOICES["all but the last token shared"]).heads == ((5, 6),)
    assert choice_plan(CHOICES["one choice begins another"]).heads == ((5, 6),)
    assert len(choice_plan(CHOICES["different heads"]).heads) == 2


def test_a_missing_adapter_is_an_error_with_its_folder(engine: LocalEngine) -> None:
    with pytest.raises(ModelError, match=r"/nowhere.*adapter_model\.safetensors is missing"):
        engine.sampler(SamplerRef("/nowhere"))
