"""`made_by.json`: the code that a run was made with, and what it was begun with if that was other code."""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from core.store.clock import now
from core.store.runs import RunView

FILE = "made_by.json"
_DISTRIBUTION = "understudy-distill"
_HOME = Path(__file__).resolve().parents[2]
_COMMIT = "UNDERSTUDY_COMMIT"


def note(view: RunView) -> None:
    """Write the present code down; other code that was at work under the name stays in `before`."""
    present = code()
    found = view.store.read_json(f"runs/{view.name}/{FILE}")
    before = _before(found, present) if isinstance(found, dict) else []
    view.write_json(FILE, {**present, "at": now(), "before": before})


@lru_cache
def code() -> dict[str, str | None]:
    """The package's version and commit.

    The commit is that of the checkout it runs from, `-dirty` where files differ; where it is installed,
    as in an image, what UNDERSTUDY_COMMIT says.
    """
    return {"version": _version(), "commit": _commit()}


def _before(found: dict[str, Any], present: dict[str, str | None]) -> list[Any]:
    earlier = found.get("before")
    out = list(earlier) if isinstance(earlier, list) else []
    last = {name: found.get(name) for name in present}
    return out if last == present else [*out, {**last, "at": found.get("at")}]


def _version() -> str | None:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    if not (_HOME / ".git").exists():  # installed; a checkout that holds the environment is another's
        return os.environ.get(_COMMIT, "").strip() or None
    command = ["git", "-C", str(_HOME), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # somebody may be committing there
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=env)
    except (OSError, subprocess.SubprocessError):  # no git, or it does not trust the folder's owner
        return None
    return found.stdout.strip() or None
