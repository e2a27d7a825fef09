"""The Tinker server fails as told, and the faults are what the real SDK sees."""

from __future__ import annotations

import io
import logging
import tarfile
import time
import urllib.request

import numpy as np
import pytest
import tinker as sdk
from tinker import types
from tinker.lib.retryable_exception import RetryableException

from tests.servers import tinker
from tests.servers import tinker_client as c
from tests.servers.tinker_orders import Damage, FaultKind, Refusal
from tests.servers.tinker_records import prompt_hash

PROMPT = (7, 90, 41, 3)
USER, SERVER = types.RequestErrorCategory.User, types.RequestErrorCategory.Server


@pytest.fixture
def sampler(client: sdk.ServiceClient) -> sdk.SamplingClient:
    return client.create_sampling_client(base_model=c.NAME).result()


def calls(server: tinker.TinkerServer, name: str) -> int:
    return server.counts().calls.get(name, 0)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("unauthorized", 401),
        ("no_balance", 402),
        ("forbidden", 403),
        ("rate_limited", 429),
        ("server_error", 500),
        ("unavailable", 503),
    ],
)
def test_a_refusal_has_its_status(server: tinker.TinkerServer, kind: Refusal, status: int) -> None:
    server.fail(kind, on="create_session", first=1)
    assert [c.post(server, "create_session", {})[0] for _ in range(2)] == [status, 200]


def test_a_fault_begins_after_some_and_ends_after_some(server: tinker.TinkerServer) -> None:
    server.fail("unavailable", on="create_session", after=2, first=2)
    found = [c.post(server, "create_session", {})[0] for _ in range(6)]
    assert found == [200, 200, 503, 503, 200, 200]
    server.fail("unavailable")
    server.recover()
    assert c.post(server, "create_session", {})[0] == 200


def test_too_many_requests_are_asked_again_after_the_time_told(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.fail("rate_limited", on="forward_backward", first=3, retry_after="0.1")
    before, began = calls(server, "forward_backward"), time.monotonic()
    c.step(trainer, 0)
    assert 0.3 <= time.monotonic() - began < 3
    assert calls(server, "forward_backward") == before + 4
    assert len(server.steps(trainer.model_id)) == 1


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "drop", "drop_taken"])
@pytest.mark.parametrize("call", ["forward_backward", "optim_step"])
def test_a_request_that_is_sent_again_is_done_once(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient, kind: FaultKind, call: str
) -> None:
    server.fail(kind, on=call, first=1)
    before = calls(server, call)
    first = c.step(trainer, 0)
    server.recover()
    second = c.step(trainer, 0)
    assert calls(server, call) == before + 3
    assert [step.seq_id for step in server.steps(trainer.model_id)] == [2, 4]
    assert second != first


def test_a_save_whose_answer_is_lost_is_no_duplicate(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.fail("drop_taken", on="save_weights", first=1)
    path = trainer.save_state("once").result().path
    assert [saved.path for saved in server.saves() if saved.model == trainer.model_id] == [path]


def test_samples_wait_where_there_are_too_many(
    server: tinker.TinkerServer, sampler: sdk.SamplingClient
) -> None:
    server.fail("rate_limited", on="asample", first=1)
    before = server.counts().sampled
    assert len(c.sampled(sampler, PROMPT)) == 4
    assert server.counts().sampled == before + 1


def test_a_slow_answer_comes(server: tinker.TinkerServer, sampler: sdk.SamplingClient) -> None:
    server.fail("slow", on="asample", seconds=0.5, first=1)
    began = time.monotonic()
    assert len(c.sampled(sampler, PROMPT)) == 4
    assert time.monotonic() - began >= 0.5


def test_a_request_that_hangs_is_given_up_by_the_server(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.fail("hang", on="optim_step", seconds=0.5, first=1)
    began = time.monotonic()
    c.step(trainer, 0)
    assert time.monotonic() - began >= 0.5
    assert len(server.steps(trainer.model_id)) == 1


def test_a_result_that_cannot_be_fetched_is_fetched_again(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.fail("server_error", on="retrieve_future", first=2)
    server.fail("drop", on="retrieve_future", first=1)
    c.step(trainer, 0)
    assert len(server.steps(trainer.model_id)) == 1


@pytest.mark.parametrize(("kind", "category"), [("user_error", USER), ("server_failure", SERVER)])
def test_a_failed_step_poisons_its_model_until_a_state_is_opened(
    server: tinker.TinkerServer,
    client: sdk.ServiceClient,
    trainer: sdk.TrainingClient,
    kind: FaultKind,
    category: types.RequestErrorCategory,
) -> None:
    c.step(trainer, 0)
    path = trainer.save_state("before").result().path
    server.fail(kind, on="forward_backward", first=1)
    forwarded = trainer.forward_backward(c.data(c.batch(1)), "cross_entropy")
    updated = trainer.optim_step(c.adam())
    error = c.refused(forwarded.result)
    assert (error.category, "was told to" in error.message) == (category, True)
    assert "is poisoned" in c.refused(updated.result).message
    assert "is poisoned" in c.refused(lambda: c.step(trainer, 1)).message
    assert c.rest(server).get_training_run(trainer.model_id).result().corrupted
    c.step(client.create_training_client_from_state_with_optimizer(path).result(), 1)
    assert [step.step for step in server.steps()[-2:]] == [0, 1]


def test_a_save_that_fails_leaves_no_checkpoint(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.fail("server_failure", on="save_weights", first=1)
    assert c.refused(lambda: trainer.save_state("lost").result()).category is SERVER
    assert c.rest(server).list_checkpoints(trainer.model_id).result().checkpoints == []


def test_a_session_that_expired_takes_nothing_in(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    path = trainer.save_state("kept").result().path
    server.fail("expired_session", on="forward_backward", first=1)
    with pytest.raises(sdk.APIStatusError, match="has finished") as caught:
        trainer.forward_backward(c.data(c.batch(0)), "cross_entropy").result()
    assert caught.value.status_code == 410
    with pytest.raises(sdk.APIStatusError, match="has finished"):
        client.create_sampling_client(base_model=c.NAME).result()
    with c.service(server) as another:
        c.step(another.create_training_client_from_state(path).result(), 0)


def test_heartbeats_are_counted_until_the_session_is_over(server: tinker.TinkerServer) -> None:
    _, opened = c.post(server, "create_session", {})
    before, session = server.counts().beats, {"session_id": opened["session_id"]}
    assert c.post(server, "session_heartbeat", session)[0] == 200
    server.end_sessions()
    assert c.post(server, "session_heartbeat", session)[0] == 410
    assert server.counts().beats == before + 1


def test_only_the_prompts_that_were_named_fail(
    server: tinker.TinkerServer, sampler: sdk.SamplingClient
) -> None:
    server.fail("user_error", on="asample", prompts=[prompt_hash((*PROMPT, 1))])
    asked = [sampler.sample(c.prompt((*PROMPT, i)), 1, c.greedy(2)) for i in range(3)]
    assert c.refused(asked[1].result).category is USER
    assert [len(asked[i].result().sequences[0].tokens) for i in (0, 2)] == [2, 2]


def test_a_row_of_prompt_logprobs_can_be_missing(
    server: tinker.TinkerServer, sampler: sdk.SamplingClient
) -> None:
    server.fail("missing_row", first=1)
    ids = np.full((len(PROMPT) - 1, 1), 5, np.int64)
    request = c.prompt(PROMPT), 1, c.greedy(1), True
    short, whole = (sampler.sample(*request, target_prompt_logprobs=c.tensor(ids)).result() for _ in range(2))
    for reply, rows in ((short, 3), (whole, 4)):
        assert reply.target_prompt_logprobs is not None
        assert (len(reply.prompt_logprobs or ()), reply.target_prompt_logprobs.shape) == (rows, [rows - 1, 1])


def test_an_older_server_passes_targets_over(
    server: tinker.TinkerServer, sampler: sdk.SamplingClient
) -> None:
    server.score_targets(False)
    ids = c.tensor(np.full((len(PROMPT) - 1, 1), 5, np.int64))
    reply = sampler.sample(c.prompt(PROMPT), 1, c.greedy(1), target_prompt_logprobs=ids).result()
    assert reply.target_prompt_logprobs is None


@pytest.mark.parametrize("way", ["status", "body"])
def test_a_paused_queue_says_why_and_goes_on(
    server: tinker.TinkerServer,
    client: sdk.ServiceClient,
    way: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    server.poll(20, "body" if way == "body" else "status")
    server.pause("paused_rate_limit", "too many samplers")
    with caplog.at_level(logging.WARNING, logger="tinker"):
        asked = sampler.sample(c.prompt(PROMPT), 1, c.greedy(2))
        until = time.monotonic() + 10
        while "Reason: too many samplers" not in caplog.text and time.monotonic() < until:
            time.sleep(0.02)
        assert not asked.future().done()
        server.resume()
        assert len(asked.result().sequences[0].tokens) == 2
    assert "Sampling is paused" in caplog.text


def test_a_paused_queue_trains_nothing(server: tinker.TinkerServer, trainer: sdk.TrainingClient) -> None:
    server.pause()
    forwarded = trainer.forward_backward(c.data(c.batch(0)), "cross_entropy")
    updated = trainer.optim_step(c.adam())
    time.sleep(0.3)
    assert server.steps(trainer.model_id) == []
    server.resume()
    forwarded.result()
    updated.result()
    assert len(server.steps(trainer.model_id)) == 1


def test_a_restart_keeps_what_was_saved_and_recorded_and_nothing_else(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    c.step(trainer, 0)
    path = trainer.save_state("saved").result().path
    weights = trainer.save_weights_for_sampler("saved").result().path
    records, before = server.records(), (server.base_url, server.pid)
    server.pause()
    pending = trainer.forward_backward(c.data(c.batch(1)), "cross_entropy")
    waiting = calls(server, "retrieve_future")
    while calls(server, "retrieve_future") == waiting:
        time.sleep(0.01)
    server.restart()
    assert server.base_url == before[0]
    assert server.pid != before[1]
    assert server.records() == records
    with pytest.raises(RetryableException, match="Promise expired"):
        pending.result()
    with pytest.raises(sdk.NotFoundError, match=r"Model .* does not exist"):
        c.step(trainer, 1)
    with pytest.raises(sdk.NotFoundError, match=r"Session .* does not exist"):
        c.trainer(client)
    with c.service(server) as another:
        again = another.create_training_client_from_state_with_optimizer(path).result()
        c.step(again, 1)
        assert [step.step for step in server.steps(again.model_id)] == [1]
        c.sampled(another.create_sampling_client(model_path=weights).result(), PROMPT)


def test_a_server_that_is_away_is_waited_for(server: tinker.TinkerServer) -> None:
    rest = c.rest(server)
    rest.get_server_capabilities().result()
    server.kill()
    asked = rest.get_server_capabilities()
    time.sleep(0.2)
    server.start()
    assert asked.result(timeout=30).supported_models


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("member_outside", "../extra.bin"),
        ("member_absolute", "/tmp/extra.bin"),
        ("member_link", "extra.bin"),
        ("member_oversize", "extra.bin"),
    ],
)
def test_an_archive_can_hold_what_must_not_be_unpacked(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient, kind: Damage, name: str
) -> None:
    trainer.save_state("packed").result()
    server.fail(kind, on="archive_file", first=1, bytes=3 << 20)
    place = f"training_runs/{trainer.model_id}/checkpoints/weights/packed/archive"
    with urllib.request.urlopen(f"{server.base_url}/api/v1/{place}", timeout=20) as reply:
        body = reply.read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        extra = tar.getmembers()[-1]
    assert (extra.name, extra.issym()) == (name, kind == "member_link")
    assert extra.size == {"member_oversize": 3 << 20, "member_link": 0}.get(kind, 4)
    assert len(body) < 1 << 20


@pytest.mark.parametrize(
    ("kind", "name", "size"),
    [
        ("member_outside", "../extra.bin", 4),
        ("member_absolute", "/tmp/extra.bin", 4),
        ("member_oversize", "extra.bin", 3 << 20),
    ],
)
def test_links_to_files_can_have_names_that_must_not_be_written(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient, kind: Damage, name: str, size: int
) -> None:
    path = trainer.save_weights_external("linked").result().path
    server.fail(kind, first=1, bytes=3 << 20)
    urls = c.rest(server).get_external_weights_urls(path).result().urls
    assert list(urls) == ["adapter_config.json", "adapter_model.safetensors", name]
    with urllib.request.urlopen(urls[name], timeout=20) as reply:
        assert len(reply.read()) == size
