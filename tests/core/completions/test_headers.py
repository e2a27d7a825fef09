"""Response headers are read in every dialect: waits, limits, durations."""

from __future__ import annotations

import datetime as dt

import pytest

from core.completions.headers import read_rate_limit, retry_after, seconds, should_retry

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250", "Retry-After": "3"}, 0.25),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:20 GMT"}, 20),
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0),
        # The server's clock is an hour behind ours.
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:20 GMT", "Date": "Sun, 01 Mar 2026 11:00:00 GMT"}, 20),
        ({"Retry-After": "later"}, None),
        ({"Retry-After": "-1"}, None),
    ],
)
def test_what_a_server_asks_for_is_read_in_every_form(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers, NOW) == wait


@pytest.mark.parametrize(("value", "said"), [("true", True), ("False", False), ("", None), ("maybe", None)])
def test_x_should_retry_is_read(value: str, said: bool | None) -> None:
    assert should_retry({"X-Should-Retry": value}) is said
    assert should_retry({}) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("7s", 7), ("2m59.56s", 179.56),
        ("30", 30), ("0", 0), ("0.25", 0.25), ("", None), ("soon", None), ("1s or so", None), ("-1", None),
        ("nan", None),
    ],
)  # fmt: skip
def test_durations_are_read_in_the_forms_that_servers_use(text: str, value: float | None) -> None:
    assert seconds(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {
            "x-ratelimit-limit-tokens": "-1",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-reset-tokens": "0",
        },
        {
            "x-ratelimit-limit-tokens": "0",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1s",
        },
        {"x-ratelimit-remaining-tokens": "many", "x-ratelimit-reset-tokens": "1s"},
    ],
)
def test_headers_that_mean_no_limit_are_left_aside(headers: dict[str, str]) -> None:
    assert read_rate_limit(headers, "tokens") is None
