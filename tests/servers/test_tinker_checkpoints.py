"""The Tinker server keeps, lists and gives out checkpoints by the service's rules."""

from __future__ import annotations

import io
import json
import tarfile
import time
import urllib.error
import urllib.request

import pytest
import tinker as sdk
from tinker import types

from tests.servers import tinker
from tests.servers import tinker_client as c

PROMPT = (7, 90, 41, 3, 150, 22, 8)


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


def test_a_name_that_is_taken_is_refused(trainer: sdk.TrainingClient) -> None:
    trainer.save_state("taken").result()
    trainer.save_state("taken", overwrite=True).result()
    error = c.refused(lambda: trainer.save_state("taken").result())
    assert "exists already" in error.message
    assert error.category is types.RequestErrorCategory.User


def test_a_name_may_be_taken_again_where_that_is_allowed(
    server: tinker.TinkerServer, client: sdk.ServiceClient, trainer: sdk.TrainingClient
) -> None:
    server.allow_duplicates(True)
    said = []
    for _ in range(2):
        path = trainer.save_weights_for_sampler("taken").result().path
        said.append(c.sampled(client.create_sampling_client(model_path=path).result(), PROMPT, 8))
        for i in range(3):
            c.step(trainer, i)
    assert said[0] != said[1], "the second client samples the second weights"


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
    error = c.refused(lambda: trainer.save_state("brief", ttl_seconds=60).result())
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
