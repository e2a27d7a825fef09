"""The ledgers of a run count every request and every token once."""

from __future__ import annotations

from typing import Any

import pytest

from core.cost import TrainingPrice
from core.export.run_files import ledger, student_ledger, teacher_ledger
from core.results import StudentLedger
from core.store import Manifest
from core.teacher.samples import TeacherLedger

STUDENT = StudentLedger(trained_tokens=0, prefilled_tokens=0, sampled_tokens=0, requests=0, usd=None)


def stage(
    run: str, now: int, so_far: int, usd: float | None = 0.0, retried: dict[str, int] | None = None
) -> TeacherLedger:
    """The ledger of a sample stage: `now` requests of its own, `so_far` of the run up to its end."""
    return TeacherLedger(
        run=run,
        asked_now=now,
        reused=0,
        usd_now=usd,
        tokens_now=0,
        cached_tokens_now=0,
        usd_of_the_run=usd,
        requests_of_the_run=so_far,
        prompt_tokens_of_the_run=0,
        cached_tokens_of_the_run=0,
        completion_tokens_of_the_run=0,
        unmetered_of_the_run=0,
        retried=retried or {},
        given_up={},
    )


def test_run_totals_are_counted_once_from_the_last_stage_in_any_order() -> None:
    stages = [stage("night", 40, 40, 0.4), stage("night", 9, 49, 0.49), stage("night", 5, 54, 0.54)]
    for order in (stages, stages[::-1], stages[1:] + stages[:1]):
        found = teacher_ledger(order)
        assert found is not None
        assert (found.requests_of_the_run, found.usd_of_the_run) == (54, 0.54)
        assert found.asked_now == 54
        assert ledger(order, STUDENT, {}).usd == 0.54


def test_requests_of_other_runs_for_reused_stages_are_added() -> None:
    found = teacher_ledger([stage("night", 40, 40, 0.4), stage("day", 9, 9, 0.1), stage("day", 5, 14, 0.2)])
    assert found is not None
    assert found.runs == ("day", "night")
    assert (found.requests_of_the_run, found.usd_of_the_run) == (54, 0.6)


def test_retries_are_summed_by_message() -> None:
    stages = [
        stage("a", 1, 1, retried={"HTTP 500": 2}),
        stage("a", 1, 2, retried={"HTTP 500": 1, "reset": 4}),
    ]
    found = teacher_ledger(stages)
    assert found is not None
    assert found.retried == {"reset": 4, "HTTP 500": 3}


@pytest.mark.parametrize("other", [0.2, None])
def test_cost_is_unknown_if_one_run_had_no_price(other: float | None) -> None:
    stages = [stage("night", 40, 40, None), stage("day", 9, 9, other)]
    found = teacher_ledger(stages)
    assert found is not None
    assert found.usd_of_the_run is None
    assert ledger(stages, STUDENT, {}).usd is None


def test_there_is_no_ledger_without_requests() -> None:
    assert teacher_ledger([]) is None


def made(stage: str, **summary: Any) -> Manifest:
    """An object of a stage with a summary."""
    at = "2026-01-02T03:04:05+00:00"
    return Manifest(
        stage=stage, key="k", writer="w", created_at=at, files={}, ingredients={}, summary=summary
    )


def test_tokens_of_all_segments_and_measurements_are_added_and_priced() -> None:
    usage = {"prefilled_tokens": 1_000_000, "sampled_tokens": 500_000, "requests": 7}
    segments = [made("train", tokens=2_000_000), made("train", tokens=1_000_000)]
    measured = [made("evaluate", usage=usage), made("export", usage=usage), made("export", rows=3)]
    found = student_ledger(segments, measured, TrainingPrice(train=1, prefill=0.1, sample=2))
    assert (found.trained_tokens, found.prefilled_tokens, found.sampled_tokens) == (
        3_000_000,
        2_000_000,
        1_000_000,
    )
    assert found.requests == 14
    assert found.usd == pytest.approx(3 * 1 + 2 * 0.1 + 1 * 2)
    assert student_ledger(segments, measured, None).usd is None
    assert student_ledger([], [], None).to_json() == {
        "trained_tokens": 0,
        "prefilled_tokens": 0,
        "sampled_tokens": 0,
        "requests": 0,
        "usd": None,
    }
