"""kill -9 while a live teacher is asked: asked again is what was under way, nothing is lost or twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest

from tests.killing import matrix
from tests.killing.live import AT_ONCE
from tests.servers import s3


@pytest.fixture(scope="module")
def drivers(
    smollm2_folder: Path, s3_server: s3.S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Popen[str]]]:
    """Both kinds of root at once."""
    arguments = ("--each=2", "--random=1", "--seed=4")
    with ExitStack() as stack:
        processes = {
            "disk": matrix.start(
                str(tmp_path_factory.mktemp("live")), {}, *arguments, module="tests.killing.live"
            ),
            "s3": matrix.start(
                f"s3://{s3.BUCKET}/live", s3_server.environment(), *arguments, module="tests.killing.live"
            ),
        }
        for process in processes.values():
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield processes


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_a_run_killed_while_it_asks_pays_again_for_no_more_than_what_was_under_way(
    drivers: dict[str, Popen[str]], kind: str
) -> None:
    results = list(matrix.read(drivers[kind].stdout))
    assert drivers[kind].wait() == 0
    assert len(results) == 3
    assert sum(r["kills"] for r in results) >= 2
    for r in results:
        assert (r["lost"], r["twice"], r["differing"], r["failed"]) == (0, 0, False, ""), r
        assert r["asked_again"] == r["under_way"], r
        # A reply that waits for the disk has given its place at the endpoint to the next.
        assert r["under_way"] <= 2 * AT_ONCE * max(r["kills"], 1), r
