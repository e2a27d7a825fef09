"""The time as it is written everywhere."""

from __future__ import annotations

import datetime as dt


def now() -> str:
    """The time, in UTC, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def seconds_since(moment: str) -> float:
    """Seconds from a written moment until now."""
    return (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(moment)).total_seconds()


def stamp() -> str:
    """The time for a file's name, such as 20261122T204129Z."""
    return dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
