"""The Tinker server does requests in order, once, and by its clock."""

from __future__ import annotations

import time
from typing import Any

import pytest
import tinker as sdk
from tinker import types

from tests.servers import tinker
from tests.servers import tinker_client as c

PROMPT = (7, 90, 41, 3, 150, 22, 8)


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

    taken, second = c.post(server, "optim_step", update)
    assert taken == 200
    time.sleep(0.1)
    assert server.steps(trainer.model_id) == [], "the second waits for the first"
    first = c.post(server, "forward_backward", forward)
    assert first == c.post(server, "forward_backward", forward)
    assert c.post(server, "optim_step", update) == (200, second)
    _, found = c.post(server, "retrieve_future", {"request_id": second["request_id"]})
    assert found["metrics"]["grad_norm:mean"] > 0
    assert [step.seq_id for step in server.steps(trainer.model_id)] == [2]


def cycles_of_a_step(server: tinker.TinkerServer, trainer: sdk.TrainingClient) -> float:
    cycles = [step.cycle for step in server.steps(trainer.model_id)]
    return (cycles[-1] - cycles[0]) / (len(cycles) - 1)


def test_waiting_for_each_request_costs_four_cycles_a_step(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.cycle(0.2)
    for i in range(4):
        trainer.forward_backward(c.data(c.batch(i)), "cross_entropy").result()
        trainer.optim_step(c.adam()).result()
    assert cycles_of_a_step(server, trainer) == pytest.approx(4, abs=0.7)


def test_waiting_for_each_pair_costs_two_cycles_a_step(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.cycle(0.2)
    for i in range(5):
        c.step(trainer, i)
    assert cycles_of_a_step(server, trainer) == pytest.approx(2, abs=0.5)


def test_submitting_ahead_costs_one_cycle_a_step(
    server: tinker.TinkerServer, trainer: sdk.TrainingClient
) -> None:
    server.cycle(0.2)
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
