"""The Tinker server computes what the local engine does and keeps the service's rules; the SDK is real."""

from __future__ import annotations

import io
import json
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker as sdk
import torch
from safetensors.numpy import load
from tinker import types

from core.engines.local import LocalEngine
from core.student.engine import GenerateParams
from tests.servers import tinker
from tests.servers import tinker_client as c
from tests.servers.tinker_records import batch_hash, prompt_hash

PROMPT = (7, 90, 41, 3, 150, 22, 8)


@pytest.fixture
def server() -> tinker.TinkerServer:
    server = c.shared_server()
    server.recover()
    return server


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield c.local_engine(c.shared_model(), tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(before)


@pytest.fixture
def client(server: tinker.TinkerServer) -> Iterator[sdk.ServiceClient]:
    with c.service(server) as client:
        yield client


@pytest.fixture
def trainer(client: sdk.ServiceClient) -> sdk.TrainingClient:
    return c.trainer(client)


def adapter(server: tinker.TinkerServer, path: str) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of external weights, fetched by the links the server gives."""
    urls = c.rest(server).get_external_weights_urls(path).result().urls
    with urllib.request.urlopen(urls["adapter_model.safetensors"], timeout=20) as reply:
        found: dict[str, np.ndarray[Any, Any]] = load(reply.read())
        return found


def refused(call: Callable[[], Any]) -> sdk.RequestFailedError:
    """The failure of a request that was taken in."""
    with pytest.raises(sdk.RequestFailedError) as caught:
        call()
    return caught.value


def test_training_gives_the_losses_and_the_adapter_of_the_local_engine(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient, engine: LocalEngine, tmp_path: Path
) -> None:
    session = engine.open(c.LORA, None)
    wanted = [session.submit(c.batch(i), c.ADAM, step=i).result().loss for i in range(4)]
    assert [c.step(trainer, i) for i in range(4)] == pytest.approx(wanted, abs=1e-5)
    session.save(tmp_path / "local", step=4)
    own = load((tmp_path / "local/adapter/adapter_model.safetensors").read_bytes())
    path = trainer.save_weights_external("trained").result().path
    served = adapter(server, path)
    assert own.keys() == served.keys()
    assert max(float(np.abs(own[name] - served[name]).max()) for name in own) < 1e-5


def test_data_of_several_forward_backwards_make_one_step(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient, engine: LocalEngine
) -> None:
    rows = c.batch(1, rows=6)
    for part in (rows[:2], rows[2:]):
        trainer.forward_backward(c.data(part), "cross_entropy").result()
    trainer.optim_step(c.adam()).result()
    session = engine.open(c.LORA, None)
    wanted = session.submit(rows, c.ADAM, step=0).result()
    [step] = server.steps(trainer.model_id)
    assert (step.loss, step.grad_norm) == pytest.approx((wanted.loss, wanted.grad_norm), rel=1e-5)
    assert step.batch == batch_hash(rows)


def test_forward_gives_each_target_s_logprob_and_trains_nothing(
    trainer: sdk.TrainingClient, engine: LocalEngine
) -> None:
    rows = c.batch(2)
    first = trainer.forward(c.data(rows), "cross_entropy").result()
    assert trainer.forward(c.data(rows), "cross_entropy").result().metrics == first.metrics
    wanted = engine.sampler(None).logprobs([(*row.tokens, row.targets[-1]) for row in rows])
    found = [np.array(out["logprobs"].data) for out in first.loss_fn_outputs]
    for row, own in zip(found, wanted, strict=True):
        np.testing.assert_allclose(row, own, atol=1e-5)
    loss = -sum(float(np.dot(row.weights, own)) for row, own in zip(rows, wanted, strict=True))
    assert first.metrics["loss:sum"] == pytest.approx(loss, abs=1e-5)


def test_a_batch_that_is_sent_in_chunks_gives_what_the_whole_gives(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    whole = c.step(trainer, 1)
    server.configure_clients({"fwdbwd_max_chunk_len": 1})
    before = server.counts().calls["forward_backward"]
    with c.service(server) as client:
        chunked = c.trainer(client)
        assert c.step(chunked, 1) == pytest.approx(whole, abs=1e-5)
        assert server.counts().calls["forward_backward"] == before + 4
        assert [step.batch for step in server.steps(chunked.model_id)] == [batch_hash(c.batch(1))]


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


def test_states_and_sampler_weights_are_not_each_other(
    client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    state = trainer.save_state("one").result().path
    weights = trainer.save_weights_for_sampler("one").result().path
    assert state == f"tinker://{trainer.model_id}/weights/one"
    assert weights == f"tinker://{trainer.model_id}/sampler_weights/one"
    with pytest.raises(sdk.BadRequestError, match="is of weights, but sampler_weights are needed"):
        client.create_sampling_client(model_path=state).result()
    with pytest.raises(sdk.BadRequestError, match="is of sampler_weights, but weights are needed"):
        client.create_training_client_from_state(weights).result()
    with pytest.raises(sdk.NotFoundError, match="does not exist or has expired"):
        client.create_training_client_from_state(state + "-other").result()


def test_a_state_with_its_optimizer_goes_on_as_if_nothing_had_been(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    c.step(trainer, 0)
    path = trainer.save_state("middle").result().path
    wanted = [c.step(trainer, i) for i in (1, 2)]
    again = client.create_training_client_from_state_with_optimizer(path).result()
    assert [c.step(again, i) for i in (1, 2)] == pytest.approx(wanted, abs=1e-6)
    alone = client.create_training_client_from_state(path).result()
    first, second = (c.step(alone, i) for i in (1, 2))
    assert first == pytest.approx(wanted[0], abs=1e-6), "the weights are the same"
    assert second != pytest.approx(wanted[1], abs=1e-6), "the optimizer's moments are not"
    assert [(r.model, r.path, r.step, r.optimizer) for r in server.restores()[-2:]] == [
        (again.model_id, path, 1, True),
        (alone.model_id, path, 1, False),
    ]
    assert [step.step for step in server.steps(again.model_id)] == [1, 2]


def test_a_state_may_be_loaded_into_a_model_as_older_sdks_do(
    client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    c.step(trainer, 0)
    path = trainer.save_state("older").result().path
    wanted = c.step(trainer, 1)
    other = c.trainer(client)
    with pytest.warns(FutureWarning):
        other.load_state_with_optimizer(path).result()
    assert c.step(other, 1) == pytest.approx(wanted, abs=1e-6)


def test_weights_without_a_name_are_a_sampler_at_once(trainer: sdk.TrainingClient) -> None:
    before = c.sampled(trainer.save_weights_and_get_sampling_client().result(), PROMPT, 6)
    for i in range(3):
        c.step(trainer, i)
    after = trainer.save_weights_and_get_sampling_client().result()
    assert c.sampled(after, PROMPT, 6) != before


def test_a_name_that_is_taken_is_refused(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    trainer.save_state("taken").result()
    trainer.save_state("taken", overwrite=True).result()
    error = refused(lambda: trainer.save_state("taken").result())
    assert "exists already" in error.message
    assert error.category is types.RequestErrorCategory.User
    server.allow_duplicates(True)
    other = c.trainer(client)
    assert [other.save_weights_for_sampler("taken").result().path for _ in range(2)] == [
        f"tinker://{other.model_id}/sampler_weights/taken"
    ] * 2


def test_a_failed_request_poisons_its_model_and_no_other(
    client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    path = trainer.save_state("good").result().path
    error = refused(lambda: trainer.forward_backward(c.data(c.batch(0)), "ppo").result())
    assert "'ppo' is not one this server computes" in error.message
    for later in (
        lambda: trainer.optim_step(c.adam()).result(),
        lambda: trainer.save_state("later").result(),
    ):
        assert "is poisoned: its request" in refused(later).message
    c.step(client.create_training_client_from_state_with_optimizer(path).result(), 0)


@pytest.mark.parametrize("loss", ["importance_sampling", "ppo", "cispo"])
def test_losses_it_does_not_compute_are_refused_by_name(trainer: sdk.TrainingClient, loss: Any) -> None:
    error = refused(lambda: trainer.forward_backward(c.data(c.batch(0)), loss).result())
    assert f"loss_fn '{loss}'" in error.message


def test_an_update_without_a_gradient_is_refused(trainer: sdk.TrainingClient) -> None:
    assert "call forward_backward first" in refused(lambda: trainer.optim_step(c.adam()).result()).message


def test_an_unknown_model_is_a_bad_request(client: sdk.ServiceClient) -> None:
    with pytest.raises(sdk.BadRequestError, match=r"Unknown base model 'none'.*tiny/base, tiny/other"):
        client.create_lora_training_client("none").result()
    with pytest.raises(sdk.BadRequestError, match="Unknown base model"):
        client.create_sampling_client(base_model="none").result()


def test_capabilities_list_every_name(server: tinker.TinkerServer) -> None:
    found = c.rest(server).get_server_capabilities().result().supported_models
    assert [(m.model_name, m.max_context_length) for m in found] == [(c.NAME, 256), ("tiny/other", 256)]


def test_info_says_what_was_asked_for(trainer: sdk.TrainingClient) -> None:
    info = trainer.get_info()
    assert (info.model_id, info.lora_rank, info.model_data.model_name) == (trainer.model_id, 4, c.NAME)


def test_a_checkpoint_expires(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    path = trainer.save_weights_for_sampler("short", ttl_seconds=3600).result().path
    kept = trainer.save_weights_for_sampler("long").result().path
    listed = {
        k.tinker_path: k for k in c.rest(server).list_checkpoints(trainer.model_id).result().checkpoints
    }
    expires = listed[path].expires_at
    assert expires is not None
    assert expires.timestamp() == pytest.approx(time.time() + 3600, abs=60)
    assert listed[kept].expires_at is None
    assert server.expire() >= 1
    left = c.rest(server).list_checkpoints(trainer.model_id).result().checkpoints
    assert [k.tinker_path for k in left] == [kept]
    with pytest.raises(sdk.NotFoundError, match="has expired"):
        client.create_sampling_client(model_path=path).result()


def test_a_time_to_live_must_be_an_hour_at_least(trainer: sdk.TrainingClient) -> None:
    error = refused(lambda: trainer.save_state("brief", ttl_seconds=60).result())
    assert "must be between 3600 and" in error.message


def test_checkpoints_are_listed_by_pages_changed_and_deleted(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    rest = c.rest(server)
    paths = [trainer.save_state(f"listed-{i}").result().path for i in range(3)]
    pages = [rest.list_user_checkpoints(limit=2, offset=i).result() for i in (0, 2)]
    assert [k.tinker_path for page in pages for k in page.checkpoints][:3] == paths[::-1]
    assert pages[0].cursor is not None
    assert pages[0].cursor.total_count >= 3
    info = rest.get_weights_info_by_tinker_path(paths[0]).result()
    assert (info.base_model, info.lora_rank, info.train_unembed) == (c.NAME, 4, False)
    rest.set_checkpoint_ttl_from_tinker_path(paths[0], 7200).result()
    rest.publish_checkpoint_from_tinker_path(paths[1]).result()
    rest.delete_checkpoint_from_tinker_path(paths[2]).result()
    left = rest.list_checkpoints(trainer.model_id).result().checkpoints
    assert [(k.checkpoint_id, k.public, k.expires_at is None) for k in left] == [
        ("weights/listed-1", True, True),
        ("weights/listed-0", False, False),
    ]


def test_training_runs_are_listed_by_pages(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    state = trainer.save_state("listed").result().path
    newest = c.trainer(client)
    page = c.rest(server).list_training_runs(limit=2).result()
    assert [run.training_run_id for run in page.training_runs] == [newest.model_id, trainer.model_id]
    assert page.cursor.total_count >= 2
    run = c.rest(server).get_training_run_by_tinker_path(state).result()
    assert run.last_checkpoint is not None
    assert run.last_checkpoint.tinker_path == state


def test_an_archive_holds_what_peft_loads(server: tinker.TinkerServer, trainer: sdk.TrainingClient) -> None:
    trainer.save_state("packed").result()
    place = f"training_runs/{trainer.model_id}/checkpoints/weights/packed/archive"
    with urllib.request.urlopen(f"{server.base_url}/api/v1/{place}", timeout=20) as reply:
        body = io.BytesIO(reply.read())
    with tarfile.open(fileobj=body) as tar:
        assert tar.getnames() == ["adapter_config.json", "adapter_model.safetensors"]
        config = tar.extractfile("adapter_config.json")
        assert config is not None
        assert json.loads(config.read())["r"] == 4


def test_a_link_without_its_signature_opens_nothing(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    path = trainer.save_weights_external("linked").result().path
    url = c.rest(server).get_external_weights_urls(path).result().urls["adapter_config.json"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.partition("?")[0], timeout=20)


def test_a_key_is_checked_where_one_is_set(server: tinker.TinkerServer) -> None:
    server.ask_for_key("tml-right")
    with pytest.raises(sdk.AuthenticationError):
        c.rest(server, "tml-wrong").get_server_capabilities().result()
    c.rest(server, "tml-right").get_server_capabilities().result()


def test_requests_are_done_by_their_number_and_once(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    """Sent by hand, since the SDK sends them in order and again only when a connection breaks."""
    from tinker.proto.request_conv import forward_backward_request_to_proto

    rows = types.ForwardBackwardInput(data=c.data(c.batch(0)), loss_fn="cross_entropy")
    forward = forward_backward_request_to_proto(
        types.ForwardBackwardRequest(forward_backward_input=rows, model_id=trainer.model_id, seq_id=1)
    ).SerializeToString()
    update = {"model_id": trainer.model_id, "seq_id": 2, "adam_params": c.adam().model_dump()}

    def post(call: str, body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(f"{server.base_url}/api/v1/{call}", body)
        with urllib.request.urlopen(request, timeout=20) as reply:
            found: dict[str, Any] = json.loads(reply.read())
            return found

    second = post("optim_step", json.dumps(update).encode())
    time.sleep(0.1)
    assert server.steps(trainer.model_id) == [], "the second waits for the first"
    first = post("forward_backward", forward)
    assert first == post("forward_backward", forward)
    assert second == post("optim_step", json.dumps(update).encode())
    found = post("retrieve_future", json.dumps({"request_id": second["request_id"]}).encode())
    assert found["metrics"]["grad_norm:mean"] > 0
    assert [step.seq_id for step in server.steps(trainer.model_id)] == [2]


def test_each_step_is_recorded_with_all_it_was_told(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    loss = c.step(trainer, 3)
    [step] = server.steps(trainer.model_id)
    assert (step.seq_id, step.step, step.batch, step.loss_fn) == (
        2,
        0,
        batch_hash(c.batch(3)),
        "cross_entropy",
    )
    assert step.loss == pytest.approx(loss, abs=1e-5)
    told = c.ADAM
    assert {name: getattr(step, name) for name in told.__slots__} == {
        name: getattr(told, name) for name in told.__slots__
    }


def test_saves_and_samples_are_recorded(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    c.step(trainer, 0)
    path = trainer.save_weights_for_sampler("recorded", ttl_seconds=3600).result().path
    saved = server.saves()[-1]
    assert (saved.model, saved.path, saved.kind, saved.step, saved.ttl_seconds) == (
        trainer.model_id,
        path,
        "sampler_weights",
        1,
        3600,
    )
    sampler = client.create_sampling_client(model_path=path).result()
    before = server.counts().sampled
    server.pause()
    asked = [sampler.sample(c.prompt((*PROMPT, i)), 1, c.greedy(1)) for i in range(5)]
    while server.counts().sampled < before + 5:
        time.sleep(0.01)
    server.resume()
    for future in asked:
        future.result()
    assert {s.prompt for s in server.samples()[-5:]} == {prompt_hash((*PROMPT, i)) for i in range(5)}
    assert max(s.outstanding for s in server.samples()[-5:]) == 5


def cycles_of_a_step(server: tinker.TinkerServer, trainer: sdk.TrainingClient) -> float:
    cycles = [step.cycle for step in server.steps(trainer.model_id)]
    return (cycles[-1] - cycles[0]) / (len(cycles) - 1)


def test_waiting_for_each_request_costs_four_cycles_a_step(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.cycle(0.15)
    for i in range(4):
        trainer.forward_backward(c.data(c.batch(i)), "cross_entropy").result()
        trainer.optim_step(c.adam()).result()
    assert cycles_of_a_step(server, trainer) == pytest.approx(4, abs=0.7)


def test_waiting_for_each_pair_costs_two_cycles_a_step(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.cycle(0.15)
    for i in range(5):
        c.step(trainer, i)
    assert cycles_of_a_step(server, trainer) == pytest.approx(2, abs=0.5)


def test_submitting_ahead_costs_one_cycle_a_step(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.cycle(0.15)
    ahead: list[Any] = []
    for i in range(8):
        ahead.append(trainer.forward_backward(c.data(c.batch(i)), "cross_entropy"))
        ahead.append(trainer.optim_step(c.adam()))
        if len(ahead) > 2:
            ahead.pop(0).result()
            ahead.pop(0).result()
    for future in ahead:
        future.result()
    assert cycles_of_a_step(server, trainer) == pytest.approx(1, abs=0.3)


def test_sampling_does_not_wait_for_the_clock(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    c.sampled(sampler, PROMPT)
    server.cycle(30)
    began = time.monotonic()
    c.sampled(sampler, PROMPT)
    assert time.monotonic() - began < 5
    server.cycle(0)


def test_telemetry_is_taken_and_dropped(server: tinker.TinkerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "telemetry" not in server.counts().calls, "no test sends any but this one"
    monkeypatch.setenv("TINKER_TELEMETRY", "1")
    with sdk.ServiceClient(base_url=server.base_url, api_key=tinker.KEY) as client:
        client.create_sampling_client(base_model=c.NAME).result()
    assert server.counts().calls["telemetry"] >= 1


def test_a_stop_string_ends_a_sequence(client: sdk.ServiceClient) -> None:
    sampler = client.create_sampling_client(base_model=c.NAME).result()
    whole = c.sampled(sampler, PROMPT, 8)
    at = next(i for i in range(2, 8) if whole[i] not in whole[:i])
    params = types.SamplingParams(max_tokens=8, temperature=0.0, stop=[f"w{whole[at]} "[:-1], "never"])
    reply = sampler.sample(c.prompt(PROMPT), 1, params).result().sequences[0]
    assert (reply.tokens, reply.stop_reason) == (whole[: at + 1], "stop")


def test_the_training_client_finds_the_model_s_tokenizer(trainer: sdk.TrainingClient) -> None:
    assert trainer.get_tokenizer().encode("w5 w17") == [5, 17]


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"server ended:\n(.|\n)*nothing is at"),
        tinker.serve(tmp_path / "none", tmp_path),
    ):
        pass


def test_an_order_that_is_no_order_is_refused(server: tinker.TinkerServer) -> None:
    with pytest.raises(ValueError, match="Input should be"):
        server._ask("fault", '{"kind": "unheard of"}')
