"""kill -9 at every named moment and at a few random ones, on disk and on S3: the same end each time.

Two runs at once make the stages that both need once; if one is killed, the other goes on in its place.
`make kill-matrix` tries many more. That a run through Prefect survives too: tests/flows/test_kill.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core import durable
from tests.killing import judging, matrix
from tests.killing.children import Passed
from tests.killing.roots import KINDS, started

SEED = 20261
SHORTER = (
    "--set=evaluation.interval=3",
    "--set=export.splits=[test]",
    "--set=export.reasoning_rows=0",
    "--set=baselines.other_prompt=false",
)
"""Two segments, few exports and baselines: `make kill-matrix` kills the longer run."""


def printed(kind: str, folder: Path, request: pytest.FixtureRequest, *arguments: str) -> list[dict[str, Any]]:
    """What the driver prints."""
    with started(kind, folder, request, f"--seed={SEED}", *arguments, *SHORTER) as driver:
        results = list(matrix.read(driver.stdout))
        assert driver.wait() == 0
    return results


def assert_as_if_nothing_had_been(results: list[dict[str, Any]]) -> None:
    """In none of the trials is anything done twice, different or failed."""
    wrong = ("answers_twice", "steps_twice", "differing", "failed")
    assert [r for r in results if any(r[name] for name in wrong)] == []


@pytest.fixture(scope="module", params=KINDS)
def driven(
    smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[dict[str, Any], dict[str, Any]]:
    """On a kind of root, one run that is killed at all failpoints one after another, and pairs of runs."""
    folder = tmp_path_factory.mktemp("driven")
    chained, pairs = printed(request.param, folder, request, "--each=0", "--chain", "--random=0", "--pairs")
    return chained, pairs


def test_a_run_killed_at_every_moment_ends_as_if_nothing_had_been(
    driven: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    chained, _ = driven
    assert_as_if_nothing_had_been([chained])
    assert chained["kills"] == len(durable.FAILPOINTS), "every failpoint is passed by a run that goes on"


def test_two_runs_at_once_make_every_stage_once(driven: tuple[dict[str, Any], dict[str, Any]]) -> None:
    alone = driven[1]["alone"]
    first, second = alone["first"], alone["second"]
    assert (first["code"], second["code"]) == (0, 0)
    assert sorted(first["steps"] + second["steps"]) == [0, 1, 2, 3, 4, 5]
    assert sorted((first["asked"], second["asked"])) == [0, 42]
    twice = {name: n for name, n in Counter(first["made"] + second["made"]).items() if n > 1}
    assert twice == {}
    assert first["digests"] == second["digests"]


def test_when_the_one_that_makes_is_killed_the_other_goes_on(
    driven: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    pairs = driven[1]
    first, second = pairs["killed"]["first"], pairs["killed"]["second"]
    assert first["killed"] or first["code"] == 0, "the second may have been the one to train"
    assert second["code"] == 0
    again = Counter(first["steps"] + second["steps"])
    assert max(again.values()) <= 2
    assert len({step for step, n in again.items() if n > 1}) <= 2, "only what was not saved is done again"
    assert set(again) == {0, 1, 2, 3, 4, 5}
    assert second["digests"] == pairs["alone"]["second"]["digests"]


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2_folder")
@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_a_run_killed_at_one_moment_ends_as_if_nothing_had_been(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A run for each failpoint, and some for random moments. Slow: the test above kills at all failpoints."""
    results = printed(kind, tmp_path, request, "--each=1", "--random=2")
    assert_as_if_nothing_had_been(results)
    assert len(results) == len(durable.FAILPOINTS) + 2, "every failpoint is passed by an undisturbed run"
    assert sum(r["kills"] for r in results) >= len(durable.FAILPOINTS)


def test_what_is_done_again_is_counted() -> None:
    safe = {"step": 4, "answers": True}
    passed = [
        Passed(0.1, durable.TEACHER_ASKED, "t1"),
        *(Passed(0.2, durable.STEP_SUBMITTED, str(step)) for step in (3, 4, 5, 5)),
    ]
    assert judging.done_twice(safe, passed) == judging.Twice(answers=1, steps=2)
    assert judging.done_twice({"step": 0, "answers": False}, passed[:3]) == judging.Twice(0, 0)


def test_what_differs_is_named_whichever_side_lacks_it() -> None:
    assert judging.differing({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == [
        "b",
        "c",
        "d",
    ]


def test_a_child_is_killed_at_its_moment_and_not_before(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from core import durable
from tests.killing.children import Moment, run_in_child
def work():
    for i in range(5):
        durable.failpoint(durable.STATE_SAVED, str(i))
ended = run_in_child(work, Path({str(tmp_path / "trace")!r}), Moment(durable.STATE_SAVED, 2))
assert ended.killed and [p.about for p in ended.passed] == ["0", "1", "2"], ended
ended = run_in_child(work, Path({str(tmp_path / "trace")!r}))
assert not ended.killed and ended.code == 0 and len(ended.passed) == 5, ended
"""
    assert matrix.python(code) == 0
