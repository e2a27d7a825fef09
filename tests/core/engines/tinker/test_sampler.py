"""Scores from a server are exact, need one request a row, and record failures."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tinker.proto.response_conv import deserialize_sample_response
from tinker.types import SampleResponse

from core.engines import AdamParams, ChoiceScores, Datum, GenerateParams, LoraSpec, SamplerRef
from core.engines.local import LocalEngine
from core.engines.local.sampler import LocalSampler
from core.engines.tinker import TinkerEngine, TinkerSettings
from core.engines.tinker import sampler as sampling
from core.engines.tinker.sampler import EachChoice, RowError, RowScore, TinkerSampler, bound
from core.engines.tinker.service import plain
from core.errors import ConfigError, DataError, SessionLost, StageError
from tests.core.engines.tinker.conftest import VOCABULARY, MakeEngine
from tests.servers import tinker
from tests.servers.tinker_orders import FaultKind
from tests.servers.tinker_proto import Answer
from tests.servers.tinker_records import prompt_hash

Rows = list[tuple[int, ...]]


def asked(prompt: Sequence[int], choices: Rows) -> str:
    """The tokens by which the server's record identifies a row's request."""
    return prompt_hash((*prompt, *choices[0][:-1], min(token for choice in choices for token in choice)))


def close_to(found: ChoiceScores, wanted: ChoiceScores, *, but: Sequence[int] = ()) -> bool:
    return all(
        found.logprobs[i] == pytest.approx(row, abs=1e-4)
        for i, row in enumerate(wanted.logprobs)
        if i not in but
    )


def test_scores_match_the_local_engine_and_are_exact(
    sampler: TinkerSampler, base: LocalSampler, prompts: Rows, choices: Rows
) -> None:
    found = sampler.score(prompts, choices)
    assert close_to(found, base.score(prompts, choices))
    assert (found.exact, found.bounds, found.errors) == (True, (), {})
    assert found.method == "target_prompt_logprobs"


@pytest.mark.parametrize(
    "forms",
    [
        [(5,), (6,)],
        [(5, 6), (5, 6, 7)],
        [(9, 9, 4), (9, 9, 9)],
        [(1, 2), (3, 4), (3, 5), (1,)],
    ],
    ids=["one token", "one begins the other", "repeated", "of several beginnings"],
)
def test_choices_of_any_form_are_scored(
    sampler: TinkerSampler, base: LocalSampler, prompts: Rows, forms: Rows
) -> None:
    assert close_to(sampler.score(prompts, forms), base.score(prompts, forms))


def test_a_row_needs_one_request(
    engine: TinkerEngine, server: tinker.TinkerServer, prompts: Rows, choices: Rows
) -> None:
    before = server.counts().sampled
    sampler = engine.sampler(None)
    for _ in range(2):
        sampler.score(prompts, choices)
    assert server.counts().sampled - before == 2 * len(prompts)


def test_a_checkpoints_sampler_has_its_weights_not_later_ones(
    engine: TinkerEngine,
    local: LocalEngine,
    lora: LoraSpec,
    adam: AdamParams,
    batches: list[list[Datum]],
    prompts: Rows,
    choices: Rows,
    tmp_path: Path,
) -> None:
    there, here = engine.open(lora, None), local.open(lora, None)
    pairs = []
    for step in range(2):
        there.submit(batches[step], adam, step=step).result()
        here.submit(batches[step], adam, step=step).result()
        saved = there.save(tmp_path / f"there-{step}", step=step + 1)
        own_saved = here.save(tmp_path / f"here-{step}", step=step + 1)
        pairs.append((engine.sampler(saved.sampler), local.sampler(own_saved.sampler)))
    for remote, own in pairs:
        assert close_to(remote.score(prompts, choices), own.score(prompts, choices))


def test_an_older_server_gives_bounds_and_a_warning(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    base: LocalSampler,
    prompts: Rows,
    choices: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.score_targets(False)
    sampler, exact = engine.sampler(None), base.score(prompts, choices)
    before = server.counts().sampled
    with caplog.at_level(logging.WARNING):
        found = sampler.score(prompts, choices)
        sampler.score(prompts, choices)
    assert caplog.text.count("using topk_prompt_logprobs") == 1
    # The first row is asked twice, once.
    assert server.counts().sampled - before == 2 * len(prompts) + 1
    assert (found.exact, found.method) == (False, "topk_prompt_logprobs")
    for i, row in enumerate(exact.logprobs):
        for j, value in enumerate(row):
            if (i, j) in found.bounds:
                assert found.logprobs[i][j] >= value - 1e-4
            else:
                assert found.logprobs[i][j] == pytest.approx(value, abs=1e-4)
    assert 0 < len(found.bounds) < len(prompts) * len(choices)


def test_top_k_that_lists_every_label_is_exact(
    monkeypatch: pytest.MonkeyPatch,
    sampler: TinkerSampler,
    server: tinker.TinkerServer,
    base: LocalSampler,
    prompts: Rows,
    choices: Rows,
) -> None:
    server.score_targets(False)
    monkeypatch.setattr(sampling, "TOP_K", VOCABULARY)
    found = sampler.score(prompts, choices)
    assert (found.exact, found.bounds) == (True, ())
    assert close_to(found, base.score(prompts, choices))


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that supports neither named tokens nor top-k: choices are scored one by one."""
    monkeypatch.setattr(sampling, "methods", lambda choices: [EachChoice(tuple(map(tuple, choices)))])


def test_choices_scored_one_by_one_are_exact(
    one_by_one: None, sampler: TinkerSampler, base: LocalSampler, prompts: Rows, choices: Rows
) -> None:
    found = sampler.score(prompts, choices)
    assert close_to(found, base.score(prompts, choices))
    assert (found.exact, found.method) == (True, "prompt_logprobs, one request a choice")
    assert sampler.usage.requests == len(prompts) * len(choices)


def test_a_row_with_an_incomplete_answer_is_recorded_as_failed(
    one_by_one: None, sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows, choices: Rows
) -> None:
    server.fail("missing_row", on="asample", prompts=[prompt_hash((*prompts[3], *choices[2]))])
    found = sampler.score(prompts, choices)
    assert found.errors == {3: "the answer is missing place 3 after the prompt"}
    assert found.logprobs[3] == ()


def received(logprobs: Sequence[float]) -> SampleResponse:
    """The SDK's object for a server's answer with these values; NaN means none."""
    return deserialize_sample_response(Answer(said=[], prompt_logprobs=list(logprobs)).encode())


def test_prompt_log_probabilities_are_read_with_and_without_the_first_token() -> None:
    forms, prompt = EachChoice(((7,), (8, 9))), (1, 2, 3)
    rows = [[math.nan, -1.0, -2.0, -3.0], [math.nan, -1.0, -2.0, -4.0, -5.0]]
    for first in (0, 1):
        answers = [received(row[first:]) for row in rows]
        assert forms.read(prompt, answers) == RowScore((-3.0, -9.0))
    short = [received(row[:-1]) for row in rows]
    with pytest.raises(RowError, match="is missing place 0"):
        forms.read(prompt, short)


def test_a_bound_is_never_below_the_value() -> None:
    rng = random.Random(1)
    for _ in range(200):
        weights = sorted((rng.random() ** 8 for _ in range(30)), reverse=True)
        logprobs = [math.log(w / sum(weights)) for w in weights]
        k = rng.randrange(1, 30)
        assert bound(logprobs[:k]) >= max(logprobs[k:]) - 1e-9


@pytest.mark.parametrize("kind", ["user_error", "server_failure"])
@pytest.mark.parametrize("at", [0, 5])
def test_a_failed_row_is_recorded_and_has_no_scores(
    sampler: TinkerSampler,
    server: tinker.TinkerServer,
    base: LocalSampler,
    prompts: Rows,
    choices: Rows,
    kind: FaultKind,
    at: int,
) -> None:
    server.fail(kind, on="asample", prompts=[asked(prompts[at], choices)])
    found = sampler.score(prompts, choices)
    assert list(found.errors) == [at]
    assert found.logprobs[at] == ()
    assert found.errors[at]
    assert close_to(found, base.score(prompts, choices), but=[at])
    assert found.exact


def test_scoring_fails_if_all_rows_fail(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows, choices: Rows
) -> None:
    server.fail("user_error", on="asample")
    with pytest.raises(StageError, match="none of 12 requests for scores was answered; the first error: "):
        sampler.score(prompts, choices)


@pytest.mark.parametrize("how", ["restart", "end_sessions"])
def test_a_lost_sampler_raises_and_a_new_one_works(
    engine: TinkerEngine, server: tinker.TinkerServer, prompts: Rows, choices: Rows, how: str
) -> None:
    sampler, lost = engine.sampler(None), engine.service.client()
    before = sampler.score(prompts, choices)
    getattr(server, how)()
    with pytest.raises(SessionLost):
        sampler.score(prompts, choices)
    assert engine.sampler(None).score(prompts, choices) == before
    engine.close()
    # One that is closed has nothing to wait for; one that is not would send its heartbeat for ever.
    assert plain(lost.close("errored")).done(), "the lost session's client was left open"


def test_a_key_rejected_during_scoring_raises(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows, choices: Rows
) -> None:
    server.fail("forbidden", on="asample", after=3)
    with pytest.raises(ConfigError, match="does not accept the key"):
        sampler.score(prompts, choices)


@pytest.mark.parametrize("kind", ["rate_limited", "server_error", "drop"])
def test_temporary_failures_fail_no_row(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows, choices: Rows, kind: FaultKind
) -> None:
    server.fail(kind, on="asample", after=2, first=1)
    assert sampler.score(prompts, choices).errors == {}


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_requests_are_in_flight_than_allowed(
    make_engine: MakeEngine, server: tinker.TinkerServer, prompts: Rows, choices: Rows, limit: int
) -> None:
    sampler = make_engine(settings=TinkerSettings(max_concurrent_requests=limit)).sampler(None)
    seen = len(server.samples())
    sampler.score(prompts, choices)
    sampler.generate(prompts, GenerateParams(max_tokens=3))
    assert max(row.outstanding for row in server.samples()[seen:]) == limit


def test_zero_tokens_send_no_request(
    sampler: TinkerSampler, server: tinker.TinkerServer, prompts: Rows
) -> None:
    before = server.counts().sampled
    assert {g.finish for g in sampler.generate(prompts, GenerateParams(max_tokens=0))} == {"length"}
    assert sampler.score([], [(1,)]).logprobs == ()
    assert server.counts().sampled == before


def test_progress_ends_at_the_number_of_rows(sampler: TinkerSampler, prompts: Rows, choices: Rows) -> None:
    for call in (
        lambda report: sampler.score(prompts, choices, progress=report),
        lambda report: sampler.generate(prompts, GenerateParams(max_tokens=2), progress=report),
    ):
        seen: list[tuple[int, int]] = []
        call(lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == sorted(seen)
        assert seen[-1] == (len(prompts), len(prompts))


def test_empty_rows_are_rejected(sampler: TinkerSampler, prompts: Rows) -> None:
    for call in (
        lambda: sampler.score([()], [(1,)]),
        lambda: sampler.score(prompts, [()]),
        lambda: sampler.generate([()], GenerateParams(max_tokens=1)),
    ):
        with pytest.raises(DataError, match="0 has no tokens"):
            call()


def test_tokens_are_counted_by_each_sampler(engine: TinkerEngine, prompts: Rows, choices: Rows) -> None:
    one, two = engine.sampler(None), engine.sampler(None)
    one.score(prompts, choices)
    generated = two.generate(prompts, GenerateParams(max_tokens=5))
    beyond = len(prompts) * len(choices[0])
    assert one.usage.prefilled == sum(map(len, prompts)) + beyond
    assert two.usage.prefilled == sum(map(len, prompts))
    assert two.usage.sampled == sum(len(g.tokens) for g in generated)
    assert (one.usage + two.usage).requests == 2 * len(prompts)


def test_a_state_s_path_opens_no_sampler(engine: TinkerEngine) -> None:
    with pytest.raises(ValueError, match="is not the path of a sampler's weights"):
        engine.sampler(SamplerRef("tinker://run/weights/state"))
