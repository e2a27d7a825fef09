"""Numbers and lists as they are read."""

from __future__ import annotations

import pytest

from core.report.render import signed


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (-0.0, "0.000"), (-0.0004, "0.000"), (0.0006, "+0.001"), (-0.25, "-0.250"), (None, "–")],
)
def test_what_is_zero_to_all_digits_shown_has_no_sign(value: float | None, shown: str) -> None:
    assert signed(value) == shown
