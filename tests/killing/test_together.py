"""Two runs that need the same stages make each once; when one is killed, the other goes on in its place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.killing import matrix
from tests.servers import s3


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A root, and the environment it takes."""
    if request.param == "disk":
        return str(tmp_path / "root"), {}
    server: s3.S3Server = request.getfixturevalue("s3_server")
    return f"s3://{s3.BUCKET}/together", server.environment()


def together(place: tuple[str, dict[str, str]], *arguments: str) -> dict[str, Any]:
    """What either of two runs did."""
    process = matrix.start(*place, *arguments, module="tests.killing.together")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    told: dict[str, Any] = json.loads(out)
    return told


@pytest.mark.usefixtures("smollm2_folder")
def test_two_runs_at_once_make_every_stage_once(place: tuple[str, dict[str, str]]) -> None:
    told = together(place)
    first, second = told["first"], told["second"]
    assert (first["code"], second["code"]) == (0, 0)
    assert sorted(first["steps"] + second["steps"]) == [0, 1, 2, 3, 4, 5]
    assert sorted((first["asked"], second["asked"])) == [0, 42]
    twice = {name: n for name, n in Counter(first["made"] + second["made"]).items() if n > 1}
    assert twice == {}
    assert first["digests"] == second["digests"]


@pytest.mark.usefixtures("smollm2_folder")
def test_when_the_one_that_makes_is_killed_the_other_goes_on(place: tuple[str, dict[str, str]]) -> None:
    told = together(place, "--kill")
    first, second = told["first"], told["second"]
    assert first["killed"] or first["code"] == 0, "the second may have been the one to train"
    assert second["code"] == 0
    again = Counter(first["steps"] + second["steps"])
    assert max(again.values()) <= 2
    assert {step for step, n in again.items() if n > 1} <= {2, 3}, "only what was not saved is done again"
    assert set(again) == {0, 1, 2, 3, 4, 5}
