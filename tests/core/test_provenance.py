"""A run records the version and commit of the code that made it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from core.store import RunView, Store
from core.store.run_view import MADE_BY, current_code, record_code

pytestmark = pytest.mark.parametrize("root", ["disk"], indirect=True)


@pytest.fixture(autouse=True)
def uncached() -> Iterator[None]:
    """Do not let one test see the code version that another found."""
    current_code.cache_clear()
    yield
    current_code.cache_clear()


def written(view: RunView) -> dict[str, Any]:
    found = json.loads(view.read("made_by.json") or "null")
    assert isinstance(found, dict)
    return found


def test_version_and_commit_are_those_of_the_checkout(store: Store) -> None:
    view = RunView(store, "r")
    record_code(view)
    found = written(view)
    assert found["version"] == version("understudy-distill")
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found["commit"])
    assert found["before"] == []


def test_earlier_code_is_recorded_once(store: Store) -> None:
    view = RunView(store, "r")
    view.write_json(MADE_BY, {"version": "0.0.1", "commit": "abc", "at": "then", "before": []})
    record_code(view)
    record_code(view)
    found = written(view)
    assert found["before"] == [{"version": "0.0.1", "commit": "abc", "at": "then"}]


def test_an_invalid_record_is_replaced(store: Store) -> None:
    view = RunView(store, "r")
    for odd in ("text", {"before": 5}):
        view.write_json(MADE_BY, odd)
        record_code(view)
        assert written(view)["version"] == version("understudy-distill")


@pytest.mark.parametrize(
    ("variable", "commit"),
    [("0123abc", "0123abc"), (" 0123abc-dirty\n", "0123abc-dirty"), ("", None), (None, None)],
)
def test_without_a_checkout_the_commit_comes_from_the_environment(
    variable: str | None, commit: str | None, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.store.run_view._CHECKOUT", tmp_path)
    monkeypatch.delenv("UNDERSTUDY_COMMIT", raising=False)
    if variable is not None:
        monkeypatch.setenv("UNDERSTUDY_COMMIT", variable)
    view = RunView(store, "r")
    record_code(view)
    assert written(view)["commit"] == commit


@pytest.mark.usefixtures("store")
def test_the_commit_of_a_checkout_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_COMMIT", "of-another-build")
    assert current_code().commit != "of-another-build"
