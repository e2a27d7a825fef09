"""The Tinker server trains as the local engine does and keeps the service's rules; the SDK is real."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker as sdk
from safetensors.numpy import load

from core.engines.local import LocalEngine
from tests.servers import tinker
from tests.servers import tinker_client as c
from tests.servers.tinker_records import batch_hash, prompt_hash

PROMPT = (7, 90, 41, 3, 150, 22, 8)


def adapter(server: tinker.TinkerServer, path: str) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of external weights, fetched by the links the server gives."""
    urls = c.rest(server).get_external_weights_urls(path).result().urls
    with urllib.request.urlopen(urls["adapter_model.safetensors"], timeout=20) as reply:
        found: dict[str, np.ndarray[Any, Any]] = load(reply.read())
        return found


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


def test_a_failed_request_poisons_its_model_and_no_other(
    client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    path = trainer.save_state("good").result().path
    error = c.refused(lambda: trainer.forward_backward(c.data(c.batch(0)), "dro").result())
    assert "'dro' is not one this server computes" in error.message
    for later in (
        lambda: trainer.optim_step(c.adam()).result(),
        lambda: trainer.save_state("later").result(),
    ):
        assert "is poisoned: its request" in c.refused(later).message
    c.step(client.create_training_client_from_state_with_optimizer(path).result(), 0)


def test_requests_and_results_may_be_json_as_older_sdks_have_them(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    [row] = c.batch(0, rows=1)
    datum = {
        "model_input": {"chunks": [{"type": "encoded_text", "tokens": row.tokens}]},
        "loss_fn_inputs": {
            "target_tokens": {"data": row.targets, "dtype": "int64"},
            "weights": {"data": row.weights, "dtype": "float32"},
        },
    }
    asked = {"data": [datum], "loss_fn": "cross_entropy"}
    body = {"model_id": trainer.model_id, "seq_id": 1, "forward_input": asked}
    _, taken = c.post(server, "forward", body)
    _, found = c.post(server, "retrieve_future", {"request_id": taken["request_id"]})
    wanted = c.trainer(client).forward(c.data([row]), "cross_entropy").result()
    assert found["metrics"] == pytest.approx(wanted.metrics, abs=1e-5)
    [logprobs] = [out["logprobs"]["data"] for out in found["loss_fn_outputs"]]
    assert logprobs == pytest.approx(wanted.loss_fn_outputs[0]["logprobs"].tolist(), abs=1e-5)


@pytest.mark.parametrize("loss", ["dro", "gspo"])
def test_losses_it_does_not_compute_are_refused_by_name(trainer: sdk.TrainingClient, loss: Any) -> None:
    error = c.refused(lambda: trainer.forward_backward(c.data(c.batch(0)), loss).result())
    assert f"loss_fn '{loss}'" in error.message


@pytest.mark.parametrize("loss", ["importance_sampling", "ppo", "cispo"])
def test_a_policy_gradient_without_advantages_is_refused(trainer: sdk.TrainingClient, loss: Any) -> None:
    error = c.refused(lambda: trainer.forward_backward(c.data(c.batch(0)), loss).result())
    assert f"lacks logprobs or advantages, which {loss} needs" in error.message


def test_an_update_without_a_gradient_is_refused(trainer: sdk.TrainingClient) -> None:
    assert "call forward_backward first" in c.refused(lambda: trainer.optim_step(c.adam()).result()).message


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


def test_a_key_is_checked_where_one_is_set(server: tinker.TinkerServer) -> None:
    server.ask_for_key("tml-right")
    with pytest.raises(sdk.AuthenticationError):
        c.rest(server, "tml-wrong").get_server_capabilities().result()
    c.rest(server, "tml-right").get_server_capabilities().result()


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


def test_telemetry_is_taken_and_dropped(server: tinker.TinkerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "telemetry" not in server.counts().calls, "no test sends any but this one"
    monkeypatch.setenv("TINKER_TELEMETRY", "1")
    with sdk.ServiceClient(base_url=server.base_url, api_key=tinker.KEY) as client:
        client.create_sampling_client(base_model=c.NAME).result()
    assert server.counts().calls["telemetry"] >= 1


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
