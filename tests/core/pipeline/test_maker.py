"""What a run says of the code that made it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from core.pipeline import maker
from core.store.objects import Store
from core.store.runs import RunView

pytestmark = pytest.mark.parametrize("root", ["memory"], indirect=True)


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """What a test makes of the surroundings is not what the next one finds."""
    maker.code.cache_clear()
    yield
    maker.code.cache_clear()


def written(view: RunView) -> dict[str, Any]:
    found = json.loads(view.read("made_by.json") or "null")
    assert isinstance(found, dict)
    return found


def test_version_and_commit_are_those_of_the_checkout(store: Store) -> None:
    view = RunView(store, "r")
    maker.note(view)
    found = written(view)
    assert found["version"] == version("understudy-distill")
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found["commit"])
    assert found["before"] == []


def test_other_code_that_was_at_work_before_is_kept_once(store: Store) -> None:
    view = RunView(store, "r")
    view.write_json(maker.FILE, {"version": "0.0.1", "commit": "abc", "at": "then", "before": []})
    maker.note(view)
    maker.note(view)
    found = written(view)
    assert found["before"] == [{"version": "0.0.1", "commit": "abc", "at": "then"}]


def test_a_record_of_an_unknown_form_is_replaced(store: Store) -> None:
    view = RunView(store, "r")
    for odd in ("text", {"before": 5}):
        view.write_json(maker.FILE, odd)
        maker.note(view)
        assert written(view)["version"] == version("understudy-distill")


@pytest.mark.parametrize(
    ("told", "commit"),
    [("0123abc", "0123abc"), (" 0123abc-dirty\n", "0123abc-dirty"), ("", None), (None, None)],
)
def test_without_a_checkout_the_commit_is_the_one_that_the_environment_tells(
    told: str | None, commit: str | None, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maker, "_HOME", tmp_path)
    monkeypatch.delenv("UNDERSTUDY_COMMIT", raising=False)
    if told is not None:
        monkeypatch.setenv("UNDERSTUDY_COMMIT", told)
    view = RunView(store, "r")
    maker.note(view)
    assert written(view)["commit"] == commit


@pytest.mark.usefixtures("store")
def test_a_checkout_knows_better_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_COMMIT", "of-another-build")
    assert maker.code()["commit"] != "of-another-build"
