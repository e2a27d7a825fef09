"""Two runs that need the same stages make each once; when one is killed, the other goes on in its place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.killing import matrix
from tests.servers import s3


@pytest.fixture(scope="module")
def told(
    smollm2_folder: Path, s3_server: s3.S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, Any]]]:
    """What the pairs did, by kind of root; both kinds at once."""
    module = "tests.killing.together"
    with ExitStack() as stack:
        processes: dict[str, Popen[str]] = {
            "disk": matrix.start(str(tmp_path_factory.mktemp("pairs")), {}, module=module),
            "s3": matrix.start(f"s3://{s3.BUCKET}/pairs", s3_server.environment(), module=module),
        }
        for process in processes.values():
            stack.callback(process.kill)
        out = {kind: process.communicate(timeout=180)[0] for kind, process in processes.items()}
        assert [p.returncode for p in processes.values()] == [0, 0]
        yield {kind: json.loads(text) for kind, text in out.items()}


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_two_runs_at_once_make_every_stage_once(told: dict[str, dict[str, Any]], kind: str) -> None:
    first, second = told[kind]["alone"]["first"], told[kind]["alone"]["second"]
    assert (first["code"], second["code"]) == (0, 0)
    assert sorted(first["steps"] + second["steps"]) == [0, 1, 2, 3, 4, 5]
    assert sorted((first["asked"], second["asked"])) == [0, 42]
    twice = {name: n for name, n in Counter(first["made"] + second["made"]).items() if n > 1}
    assert twice == {}
    assert first["digests"] == second["digests"]


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_when_the_one_that_makes_is_killed_the_other_goes_on(
    told: dict[str, dict[str, Any]], kind: str
) -> None:
    first, second = told[kind]["killed"]["first"], told[kind]["killed"]["second"]
    assert first["killed"] or first["code"] == 0, "the second may have been the one to train"
    assert second["code"] == 0
    again = Counter(first["steps"] + second["steps"])
    assert max(again.values()) <= 2
    assert len({step for step, n in again.items() if n > 1}) <= 2, "only what was not saved is done again"
    assert set(again) == {0, 1, 2, 3, 4, 5}
    assert second["digests"] == told[kind]["alone"]["second"]["digests"]
