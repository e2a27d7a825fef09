"""Generation in batches matches generation row by row."""

from __future__ import annotations

import random

import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM

from core.engines import GenerateParams
from core.engines.local import LocalEngine
from tests.core.engines.local.conftest import ARCHITECTURES, VOCABULARY, MakeModel, PlainLogits


def random_prompts(seed: int, rows: int, prefix: int) -> list[list[int]]:
    rng = random.Random(seed)
    begin = [rng.randrange(VOCABULARY) for _ in range(prefix)]
    return [begin + [rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, 20))] for _ in range(rows)]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("prefix", [0, 30])
def test_greedy_tokens_are_the_argmax_of_whole_rows(
    make_model: MakeModel, plain_logits: PlainLogits, architecture: str, prefix: int
) -> None:
    source = make_model(architecture)
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32).eval()
    prompts = random_prompts(2, rows=5, prefix=prefix)
    found = LocalEngine(source, device="cpu").sampler(None).generate(prompts, GenerateParams(max_tokens=70))
    for prompt, generation in zip(prompts, found, strict=True):
        with torch.no_grad():
            logprobs = plain_logits(model, [*prompt, *generation.tokens]).log_softmax(1)[len(prompt) - 1 : -1]
        best, highest = logprobs.max(1)
        assert generation.finish == "length"
        assert list(generation.tokens) == highest.tolist()
        assert list(generation.logprobs) == pytest.approx(best.tolist(), abs=1e-4)


def test_each_row_stops_before_its_stop_token(engine: LocalEngine) -> None:
    sampler, prompts = engine.sampler(None), random_prompts(3, rows=8, prefix=12)
    free = sampler.generate(prompts, GenerateParams(max_tokens=12))
    stops = tuple({generation.tokens[i % 12] for i, generation in enumerate(free)})
    stopped = sampler.generate(prompts, GenerateParams(max_tokens=12, stop_tokens=stops))
    for whole, cut in zip(free, stopped, strict=True):
        upto = next((i for i, token in enumerate(whole.tokens) if token in stops), 12)
        assert cut.tokens == whole.tokens[:upto]
        assert len(cut.logprobs) == upto
        assert cut.finish == ("stop" if upto < 12 else "length")
    assert {generation.finish for generation in stopped} == {"stop"}


def test_sampling_depends_on_seed_and_position_not_on_the_batch(engine: LocalEngine) -> None:
    sampler, prompts = engine.sampler(None), random_prompts(4, rows=6, prefix=15)
    params = GenerateParams(max_tokens=15, temperature=1.0, seed=3)
    together = sampler.generate(prompts, params)
    first_alone = sampler.generate(prompts[:1], params)
    assert first_alone[0].tokens == together[0].tokens
    assert sampler.generate(prompts, params) == together
    other = sampler.generate(prompts, GenerateParams(max_tokens=15, temperature=1.0, seed=4))
    assert [g.tokens for g in other] != [g.tokens for g in together]


def test_sampled_frequencies_are_the_models_probabilities(engine: LocalEngine) -> None:
    prompt, rows = [5, 6, 7], 1000
    sampler = engine.sampler(None)
    drawn = sampler.generate([prompt] * rows, GenerateParams(max_tokens=1, temperature=0.7, seed=1))
    logprobs = sampler.score([prompt], [(token,) for token in range(VOCABULARY)]).logprobs[0]
    wanted = (torch.tensor(logprobs, dtype=torch.float64) / 0.7).softmax(0)
    assert all(abs(g.logprobs[0] - logprobs[g.tokens[0]]) < 1e-4 for g in drawn)
    counts = torch.bincount(torch.tensor([g.tokens[0] for g in drawn]), minlength=VOCABULARY)
    common = wanted * rows >= 5
    assert chisquare(*(_binned(x, common) for x in (counts.double(), wanted * rows))).pvalue > 1e-3


def _binned(values: torch.Tensor, common: torch.Tensor) -> list[float]:
    return [*values[common].tolist(), values[~common].sum().item()]


def test_generating_zero_tokens_returns_none(engine: LocalEngine) -> None:
    found = engine.sampler(None).generate([[1, 2]], GenerateParams(max_tokens=0))
    assert (found[0].tokens, found[0].finish) == ((), "length")


def test_progress_ends_at_the_number_of_rows(engine: LocalEngine) -> None:
    seen: list[tuple[int, int]] = []
    prompts = random_prompts(5, rows=70, prefix=4)
    engine.sampler(None).generate(
        prompts, GenerateParams(max_tokens=2), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (70, 70)
    assert len(seen) > 1
