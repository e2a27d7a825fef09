"""Two runs that need the same stages make each once; when one is killed, the other goes on in its place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.killing.roots import KINDS, started


@pytest.fixture(scope="module", params=KINDS)
def told(
    smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Any]:
    """What the pairs did on a kind of root."""
    folder = tmp_path_factory.mktemp("pairs")
    with started(request.param, folder, request, module="tests.killing.together") as driver:
        out, _ = driver.communicate(timeout=180)
        assert driver.returncode == 0
        found: dict[str, Any] = json.loads(out)
        return found


def test_two_runs_at_once_make_every_stage_once(told: dict[str, Any]) -> None:
    first, second = told["alone"]["first"], told["alone"]["second"]
    assert (first["code"], second["code"]) == (0, 0)
    assert sorted(first["steps"] + second["steps"]) == [0, 1, 2, 3, 4, 5]
    assert sorted((first["asked"], second["asked"])) == [0, 42]
    twice = {name: n for name, n in Counter(first["made"] + second["made"]).items() if n > 1}
    assert twice == {}
    assert first["digests"] == second["digests"]


def test_when_the_one_that_makes_is_killed_the_other_goes_on(told: dict[str, Any]) -> None:
    first, second = told["killed"]["first"], told["killed"]["second"]
    assert first["killed"] or first["code"] == 0, "the second may have been the one to train"
    assert second["code"] == 0
    again = Counter(first["steps"] + second["steps"])
    assert max(again.values()) <= 2
    assert len({step for step, n in again.items() if n > 1}) <= 2, "only what was not saved is done again"
    assert set(again) == {0, 1, 2, 3, 4, 5}
    assert second["digests"] == told["alone"]["second"]["digests"]
