"""The Tinker server scores and generates what the local engine does; the SDK is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tinker as sdk
import torch
from tinker import types

from core.engines import GenerateParams
from core.engines.local import LocalEngine
from tests.servers import tinker
from tests.servers import tinker_client as c

PROMPT = (7, 90, 41, 3, 150, 22, 8)


def test_a_sampler_scores_targets_like_the_local_engine(
    client: sdk.ServiceClient, trainer: sdk.TrainingClient, engine: LocalEngine, tmp_path: Path
) -> None:
    c.step(trainer, 0)
    path = trainer.save_weights_for_sampler("scores").result().path
    sampler = client.create_sampling_client(model_path=path).result()
    ids = np.full((len(PROMPT), 3), -1, np.int64)
    ids[-1] = (5, 6, 7)
    ids[2, 1] = 9
    request = c.prompt((*PROMPT, 0)), 1, c.greedy(1)
    dense = sampler.sample(*request, target_prompt_logprobs=c.tensor(ids)).result().target_prompt_logprobs
    sparse_ids = types.TensorData.from_torch_sparse(torch.tensor(ids), pad_value=-1)
    sparse = sampler.sample(*request, target_prompt_logprobs=sparse_ids).result().target_prompt_logprobs
    session = engine.open(c.LORA, None)
    session.submit(c.batch(0), c.ADAM, step=0).result()
    own = engine.sampler(session.save(tmp_path / "own", step=1).sampler)
    assert dense is not None
    assert sparse is not None
    found = dense.to_numpy()
    wanted = own.score([PROMPT], [(5,), (6,), (7,)]).logprobs[0]
    np.testing.assert_allclose(found[-1], wanted, atol=1e-5)
    assert found[2, 1] == pytest.approx(own.score([PROMPT[:3]], [(9,)]).logprobs[0][0], abs=1e-5)
    assert np.count_nonzero(found) == 4
    np.testing.assert_allclose(np.asarray(sparse.data), found[found != 0.0])


def test_prompts_are_scored_like_the_local_engine(client: sdk.ServiceClient, engine: LocalEngine) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    [wanted] = engine.sampler(None).logprobs([PROMPT])
    found = sampler.compute_logprobs(c.prompt(PROMPT)).result()
    assert found[0] is None
    assert found[1:] == pytest.approx(wanted, abs=1e-5)
    last = sampler.compute_logprobs(c.prompt(PROMPT), prompt_logprobs_last_n=2).result()
    assert last[:5] == [None] * 5
    assert last[5:] == pytest.approx(found[5:], abs=1e-5)


def test_top_logprobs_are_the_largest_in_order(client: sdk.ServiceClient, engine: LocalEngine) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    reply = sampler.sample(
        c.prompt(PROMPT), 1, c.greedy(2), True, topk_prompt_logprobs=2, topk_sample_logprobs=3
    ).result()
    own = engine.sampler(None).score([PROMPT], [(i,) for i in range(c.VOCABULARY)]).logprobs[0]
    best = sorted(range(c.VOCABULARY), key=lambda i: -own[i])[:3]
    said = reply.sequences[0].topk_logprobs
    assert said is not None
    assert said[0] is not None
    assert [token for token, _ in said[0]] == best
    assert [value for _, value in said[0]] == pytest.approx([own[i] for i in best], abs=1e-5)
    assert reply.sequences[0].tokens[0] == best[0]
    prompt = reply.topk_prompt_logprobs
    assert prompt is not None
    assert prompt[0] is None
    assert [len(row or ()) for row in prompt[1:]] == [2] * (len(PROMPT) - 1)


def test_greedy_generation_is_the_local_engine_s(client: sdk.ServiceClient, engine: LocalEngine) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    [wanted] = engine.sampler(None).generate([PROMPT], GenerateParams(max_tokens=12))
    reply = sampler.sample(c.prompt(PROMPT), 1, c.greedy(12)).result().sequences[0]
    assert (reply.tokens, reply.stop_reason) == (list(wanted.tokens), "length")
    assert reply.logprobs == pytest.approx(wanted.logprobs, abs=1e-5)


def test_greedy_requests_that_wait_together_say_what_each_says_alone(
    server: tinker.TinkerServer, client: sdk.ServiceClient
) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    prompts = [(*PROMPT, i) for i in range(12)]
    alone = [c.sampled(sampler, tokens, 6) for tokens in prompts]
    server.pause()
    asked = [sampler.sample(c.prompt(tokens), 1, c.greedy(6)) for tokens in prompts]
    server.resume()
    assert [future.result().sequences[0].tokens for future in asked] == alone


def test_a_seed_repeats_itself_and_its_samples_differ(client: sdk.ServiceClient, engine: LocalEngine) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    params = types.SamplingParams(max_tokens=8, temperature=1.0, seed=5, stop=[])
    first, second = (sampler.sample(c.prompt(PROMPT), 3, params).result().sequences for _ in range(2))
    said = [sequence.tokens for sequence in first]
    assert said == [sequence.tokens for sequence in second]
    assert len({tuple(tokens) for tokens in said}) == 3
    assert len({sequence.sequence_id for sequence in (*first, *second)}) == 6
    own = engine.sampler(None).generate([PROMPT] * 3, GenerateParams(max_tokens=8, temperature=1.0, seed=5))
    assert said == [list(generation.tokens) for generation in own]


def test_a_sequence_ends_with_its_stop_token(client: sdk.ServiceClient) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    tokens = c.sampled(sampler, PROMPT, 8)
    stop = next(t for t in tokens[1:] if t != tokens[0])
    upto = tokens[: tokens.index(stop) + 1]
    for stops in ([stop], [stop, 210]):
        reply = sampler.sample(c.prompt(PROMPT), 1, c.greedy(8, stops)).result().sequences[0]
        assert (reply.tokens, reply.stop_reason) == (upto, "stop")
        assert len(reply.logprobs or ()) == len(upto)


def test_weights_without_a_name_are_a_sampler_at_once(trainer: sdk.TrainingClient) -> None:
    before = c.sampled(trainer.save_weights_and_get_sampling_client().result(), PROMPT, 6)
    for i in range(3):
        c.step(trainer, i)
    after = trainer.save_weights_and_get_sampling_client().result()
    assert c.sampled(after, PROMPT, 6) != before


def test_a_stop_string_ends_a_sequence(client: sdk.ServiceClient) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    whole = c.sampled(sampler, PROMPT, 8)
    at = next(i for i in range(2, 8) if whole[i] not in whole[:i])
    params = types.SamplingParams(max_tokens=8, temperature=0.0, stop=[f"w{whole[at]} "[:-1], "never"])
    reply = sampler.sample(c.prompt(PROMPT), 1, params).result().sequences[0]
    assert (reply.tokens, reply.stop_reason) == (whole[: at + 1], "stop")
