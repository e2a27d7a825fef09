"""Completions and log-probabilities of sequences from a server match the local engine."""

from __future__ import annotations

import pytest

from core.engines import GenerateParams
from core.engines.local.sampler import LocalSampler
from core.engines.tinker.sampler import SampleRequest, TinkerSampler, generations
from core.engines.tinker.service import load_sdk
from core.errors import DataError, StageError
from tests.servers import tinker
from tests.servers.tinker_records import prompt_hash

Rows = list[tuple[int, ...]]


def test_sequence_log_probabilities_match_the_local_engine(
    sampler: TinkerSampler, base: LocalSampler, prompts: Rows
) -> None:
    rows = [*prompts, (5,)]
    for found, wanted in zip(sampler.logprobs(rows), base.logprobs(rows), strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(DataError, match="sequence 0 has no tokens"):
        sampler.logprobs([()])


def test_log_probabilities_that_fail_are_an_error(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows
) -> None:
    server.fail("missing_row", on="asample", prompts=[prompt_hash(prompts[2])])
    with pytest.raises(StageError, match="log-probabilities of sequence 2 came back incomplete"):
        sampler.logprobs(prompts)


def test_greedy_completions_match_the_local_engine(
    sampler: TinkerSampler, base: LocalSampler, prompts: Rows
) -> None:
    free = base.generate(prompts, GenerateParams(max_tokens=8))
    stop = (free[0].tokens[3], free[1].tokens[5])
    params = GenerateParams(max_tokens=8, stop_tokens=stop)
    found, wanted = sampler.generate(prompts, params), base.generate(prompts, params)
    assert [(g.tokens, g.finish) for g in found] == [(g.tokens, g.finish) for g in wanted]
    assert {g.finish for g in found} == {"stop", "length"}
    for here, there in zip(found, wanted, strict=True):
        assert here.logprobs == pytest.approx(there.logprobs, abs=1e-4)
        assert not set(here.tokens) & set(stop)


@pytest.mark.parametrize(
    ("tokens", "reason", "kept"),
    [
        ((5, 6, 2), "stop", ((5, 6), (-1.0, -2.0), "stop", (2, -3.0))),
        ((5, 2, 7), "length", ((5,), (-1.0,), "stop", (2, -2.0))),
        ((5, 6, 7), "length", ((5, 6, 7), (-1.0, -2.0, -3.0), "length", None)),
        ((5, 6, 7), "stop", ((5, 6, 7), (-1.0, -2.0, -3.0), "stop", None)),
    ],
)
def test_a_completion_ends_at_its_first_stop_token(
    tokens: tuple[int, ...], reason: str, kept: tuple[object, ...]
) -> None:
    types = load_sdk().types
    sequence = types.SampledSequence(
        stop_reason=reason,
        sequence_id="a",
        _tokens_list=list(tokens),
        _logprobs_list=[-1.0, -2.0, -3.0],
    )
    request = SampleRequest((1,), {}, GenerateParams(max_tokens=3, stop_tokens=(2, 3)))
    (found,) = generations(request, types.SampleResponse(sequences=[sequence]))
    assert (found.tokens, found.logprobs, found.finish, found.stop) == kept


def test_a_seed_is_reproducible_and_rows_differ(sampler: TinkerSampler, prompts: Rows) -> None:
    same = [prompts[0]] * 6
    params = GenerateParams(max_tokens=8, temperature=3.0, seed=4)
    first, again = sampler.generate(same, params), sampler.generate(same, params)
    assert first == again
    assert len({g.tokens for g in first}) > 1
    assert sampler.generate(same, GenerateParams(max_tokens=8, temperature=3.0, seed=5)) != first


def test_equal_adjacent_prompts_are_one_request(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows
) -> None:
    before, asked = sampler.usage, len(server.samples())
    groups = [prompts[0]] * 4 + [prompts[1]] * 4
    reported: list[tuple[int, int]] = []
    params = GenerateParams(max_tokens=8, temperature=3.0, seed=4)
    generated = sampler.generate(groups, params, progress=lambda done, of: reported.append((done, of)))
    assert len(generated) == 8
    assert len({g.tokens for g in generated}) > 2
    spent = sampler.usage
    assert spent.requests - before.requests == len(server.samples()) - asked == 2
    assert spent.prefilled - before.prefilled == len(prompts[0]) + len(prompts[1])
    assert spent.sampled - before.sampled == sum(len(g.tokens) for g in generated)
    assert sorted(reported) == [(4, 8), (8, 8)]


def test_a_failed_request_loses_only_the_answers_of_its_prompt(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows
) -> None:
    server.fail("server_failure", on="asample", prompts=[prompt_hash(prompts[1])])
    generated = sampler.generate([prompts[0]] * 2 + [prompts[1]] * 3, GenerateParams(max_tokens=2))
    assert [g.finish == "error" for g in generated] == [False, False, True, True, True]
    assert {g.error for g in generated[2:]} == {"RuntimeError: the server was told to fail"}


def test_a_failed_completion_has_no_tokens_and_a_reason(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows
) -> None:
    server.fail("server_failure", on="asample", prompts=[prompt_hash(prompts[4])])
    generated = sampler.generate(prompts, GenerateParams(max_tokens=2))
    assert [i for i, g in enumerate(generated) if g.finish == "error"] == [4]
    assert (generated[4].tokens, generated[4].error) == ((), "RuntimeError: the server was told to fail")
