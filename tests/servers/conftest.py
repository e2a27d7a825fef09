"""What the tests of the Tinker server share: it and a real client, made anew for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the SDK takes seconds, which the tests of other servers need not wait for
    import tinker as sdk

    from core.engines.local import LocalEngine
    from tests.servers.tinker import TinkerServer


@pytest.fixture
def server() -> TinkerServer:
    """The process's server, behaving as at its start."""
    from tests.servers import tinker_client

    return tinker_client.fresh_server()


@pytest.fixture
def client(server: TinkerServer) -> Iterator[sdk.ServiceClient]:
    from tests.servers import tinker_client

    with tinker_client.service(server) as client:
        yield client


@pytest.fixture
def trainer(client: sdk.ServiceClient) -> sdk.TrainingClient:
    from tests.servers import tinker_client

    return tinker_client.trainer(client)


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """What the server computes with, in this process."""
    from tests.servers import tinker_client

    return tinker_client.local_engine()
