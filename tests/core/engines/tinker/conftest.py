"""A real Tinker server over a tiny random model, and engines that talk to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from core.engines import AdamParams, Datum, LoraSpec
from core.engines.local import LocalEngine
from core.engines.local.sampler import LocalSampler
from core.engines.tinker import Connection, TinkerEngine, TinkerSettings
from core.engines.tinker.sampler import TinkerSampler
from tests.servers import tinker, tinker_client

MODEL = tinker_client.NAME
VOCABULARY = tinker_client.VOCABULARY
MakeEngine = Callable[..., TinkerEngine]


@pytest.fixture
def server() -> Iterator[tinker.TinkerServer]:
    """The server, without faults at the beginning and at the end of a test."""
    yield tinker_client.fresh_server()
    tinker_client.fresh_server()


@pytest.fixture
def connected(server: tinker.TinkerServer) -> Connection:
    return Connection(server.base_url, tinker.KEY)


@pytest.fixture
def waits() -> list[str]:
    """The messages that the engine reports while it waits."""
    return []


@pytest.fixture
def make_engine(connected: Connection, waits: list[str]) -> Iterator[MakeEngine]:
    with ExitStack() as stack:

        def make(settings: TinkerSettings | None = None) -> TinkerEngine:
            engine = TinkerEngine(MODEL, connected, settings)
            engine.service.tick_s = 0.05
            stack.callback(engine.close)
            stack.enter_context(engine.report_waits(waits.append))
            return engine

        yield make


@pytest.fixture
def engine(make_engine: MakeEngine) -> TinkerEngine:
    return make_engine()


@pytest.fixture(scope="session")
def local() -> LocalEngine:
    """The engine that the server computes with."""
    return tinker_client.local_engine()


@pytest.fixture(scope="session")
def lora() -> LoraSpec:
    return LoraSpec(rank=4, alpha=32.0, dropout=0.0, seed=11)


@pytest.fixture(scope="session")
def adam() -> AdamParams:
    return AdamParams(
        learning_rate=5e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.01, grad_clip_norm=1.0
    )


@pytest.fixture(scope="session")
def batches() -> list[list[Datum]]:
    """Eight batches of random rows whose last tokens have weights."""
    rng = random.Random(3)
    return [[_datum(rng, rows=4) for _ in range(4)] for _ in range(8)]


def _datum(rng: random.Random, rows: int) -> Datum:
    prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randrange(6, 20))]
    answer = [rng.randrange(VOCABULARY) for _ in range(rng.randrange(2, 6))]
    tokens = prompt + answer
    weights = [0.0] * (len(prompt) - 1) + [rng.random() / rows for _ in answer]
    return Datum(tuple(tokens[:-1]), tuple(tokens[1:]), tuple(weights))


@pytest.fixture(scope="session")
def prompts() -> list[tuple[int, ...]]:
    rng = random.Random(5)
    return [tuple(rng.randrange(VOCABULARY) for _ in range(rng.randrange(8, 24))) for _ in range(12)]


@pytest.fixture(scope="session")
def choices() -> list[tuple[int, ...]]:
    """Forms of two labels that share all but their last token."""
    return [(7, 8, 9, label) for label in (20, 21, 40, 41)]


def rated(adam: AdamParams, step: int) -> AdamParams:
    """A learning rate that identifies the step."""
    return replace(adam, learning_rate=adam.learning_rate / (step + 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "saved"


@pytest.fixture
def sampler(engine: TinkerEngine) -> TinkerSampler:
    return engine.sampler(None)


@pytest.fixture
def base(local: LocalEngine) -> Iterator[LocalSampler]:
    sampler = local.sampler(None)
    yield sampler
    sampler.close()
