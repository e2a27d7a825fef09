"""kill -9 while a live teacher is asked: asked again is what was under way, nothing is lost or twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.killing import matrix
from tests.killing.live import AT_ONCE
from tests.killing.roots import KINDS, started


@pytest.mark.usefixtures("smollm2_folder")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_while_it_asks_pays_again_for_no_more_than_what_was_under_way(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    arguments = ("--each=2", "--random=1", "--seed=4")
    with started(kind, tmp_path, request, *arguments, module="tests.killing.live") as driver:
        results = list(matrix.read(driver.stdout))
        assert driver.wait() == 0
    assert len(results) == 3
    assert sum(r["kills"] for r in results) >= 2
    for r in results:
        assert (r["lost"], r["twice"], r["differing"], r["failed"]) == (0, 0, False, ""), r
        assert r["asked_again"] == r["under_way"], r
        # A reply that waits for the disk has given its place at the endpoint to the next.
        assert r["under_way"] <= 2 * AT_ONCE * max(r["kills"], 1), r
