"""The same on PostgreSQL, which a team's server wants: published, worked on, completed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployments import working
from tests.deployments.working import Project, deploy, ended, until
from tests.servers import postgres, prefect_api
from tests.servers.prefect_api import PrefectServer

pytestmark = pytest.mark.deployments


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an empty database."""
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL is installed; on Debian: apt-get install postgresql")
    with postgres.serve() as url:
        yield url


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[PrefectServer]:
    with prefect_api.serve(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=database) as found:
        yield found


def test_on_postgresql_a_published_table_becomes_a_student(
    server: PrefectServer, tiny_model: Path, tmp_path: Path
) -> None:
    project = Project.write(tmp_path / "project", tiny_model)
    deploy(server, project)
    table = Path(shutil.copy(project.folder / "texts.csv", project.folder / "new.csv"))
    with working.working(server, project):
        server.understudy("publish-dataset", str(table))
        until(lambda: server.post("flow_runs/filter"), "no run was started")
        (run,) = server.post("flow_runs/filter")
        assert ended(server, str(run["id"])) == "Completed"
    assert (project.run("small-new") / "test_report.md").is_file()
    assert not list(server.home.glob("*.db")), "it used SQLite after all"
