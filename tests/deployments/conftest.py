"""A real Prefect server with everything that deployments/ names on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.deployments.pages import PREFIXES, Pages
from tests.servers import prefect_api
from tests.servers.prefect_api import PrefectServer

POOLS = {"understudy": "process", "understudy-docker": "docker"}
DEPLOY = ("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server with an empty database."""
    with prefect_api.serve(tmp_path_factory.mktemp("prefect-server")) as found:
        yield found


@pytest.fixture(scope="module")
def deployed(server: PrefectServer) -> PrefectServer:
    """The server, with the pools and all deployments, as README.md there says."""
    for pool, kind in POOLS.items():
        server.prefect_here("work-pool", "create", pool, "--type", kind)
    server.prefect_here(*DEPLOY)
    return server


@pytest.fixture(params=list(PREFIXES))
def pages(request: pytest.FixtureRequest, server: PrefectServer, chromium_page: Page) -> Pages:
    """The server's pages, of each kind."""
    return Pages(chromium_page, server.url.removesuffix("/api"), request.param)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table to publish."""
    path = tmp_path / "New Texts.jsonl"
    path.write_text('{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}\n')
    return path
