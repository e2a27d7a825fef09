"""Optional parts: a failure is recorded with its cause, and the run continues."""

from __future__ import annotations

import logging
import pickle

import pytest

from core.errors import DataError, Failure, Failures, Part, PartFailed, StoreError, separable, strict


def test_a_failure_is_recorded_with_its_type_and_message_and_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures()
    with failures.optional(Part.HARDNESS, "val"):
        raised(DataError("no answers to val"))
    expected = Failure("Texts that were hard for the teacher: val", "DataError", "no answers to val")
    assert list(failures) == [expected]
    assert failures.to_json() == [
        {"part": expected.part, "error": expected.error, "message": expected.message}
    ]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert expected.part in record.getMessage()
    assert "DataError: no answers to val" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], DataError)


@pytest.mark.parametrize("error", [RuntimeError(), MemoryError("2 GB"), StoreError("disk"), KeyError("x")])
def test_every_kind_of_failure_is_recorded_with_a_message(error: Exception) -> None:
    failures = Failures()
    with failures.optional(Part.PLOT):
        raised(error)
    (found,) = failures
    assert found.error == type(error).__name__
    assert found.message


class Cancelled(Exception):
    """How an orchestrator ends a run."""


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, GeneratorExit, Cancelled])
def test_cancellation_is_never_recorded_as_a_failure(ending: type[BaseException]) -> None:
    failures = Failures(never=(Cancelled,))
    with pytest.raises(ending), failures.optional(Part.TRACKER):
        raise ending
    with pytest.raises(ending):
        failures.attempt(Part.FACTS, "x", lambda: raised(ending()), lambda: 0)
    assert len(failures) == 0


def raised(error: BaseException) -> int:
    """A call that fails."""
    raise error


def test_successful_part_returns_its_result_without_a_record() -> None:
    failures = Failures()
    with failures.optional(Part.PLOT):
        pass
    assert failures.attempt(Part.FACTS, "ledger", lambda: {"usd": 1}, dict) == {"usd": 1}
    assert failures.to_json() == []


def test_failed_attempt_is_replaced_and_recorded() -> None:
    failures = Failures()
    assert failures.attempt(Part.FACTS, "ledger", lambda: {"usd": 1 // 0}, dict) == {}
    assert [f.part for f in failures] == ["Facts of the report: ledger"]
    assert Part.FACTS not in failures
    assert "Facts of the report: ledger" in failures


def test_a_part_that_fails_twice_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for _ in range(2):
        with failures.optional(Part.SECTION, "costs"):
            raised(ValueError("no price"))
    assert len(failures) == len(caplog.records) == 1
    with failures.optional(Part.SECTION, "costs"):
        raised(ValueError("another reason"))
    assert [f.message for f in failures] == ["another reason"]


def test_strict_record_raises_every_failure() -> None:
    with pytest.raises(ValueError, match="x"), strict().optional(Part.PLOT):
        raise ValueError("x")


def test_separable_error_names_part_and_cause() -> None:
    with pytest.raises(PartFailed) as caught, separable(Part.PARITY), separable(Part.MERGED):
        raise OSError(28, "No space left on device")
    assert caught.value.part is Part.MERGED, "the innermost part is the one that failed"
    assert caught.value.error == "OSError"
    assert isinstance(caught.value.__cause__, OSError)
    again = pickle.loads(pickle.dumps(caught.value))  # Prefect may carry it to another process
    assert (again.part, again.error, again.message) == (Part.MERGED, "OSError", caught.value.message)
    failures = Failures()
    failures.note(Part.MERGED, again)
    assert list(failures) == [Failure("Merged weights", "OSError", again.message)]
