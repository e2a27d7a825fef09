"""`made_by.json`: the version and commit of the code that made a run, and of any code that began it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from core.jsonio import InvalidFile, Record, now, parse
from core.store.runs import RunView

FILE = "made_by.json"
COMMIT_VARIABLE = "UNDERSTUDY_COMMIT"
_CHECKOUT = Path(__file__).resolve().parents[1]


class CodeVersion(Record):
    """The version of the package, and its commit: with `-dirty` if files of the checkout were changed."""

    version: str | None = None
    commit: str | None = None


class EarlierCode(CodeVersion):
    """Code that was used under the run's name before."""

    at: str | None = None


class MadeBy(EarlierCode):
    """`made_by.json`. `before` lists other code that was used, the earliest first."""

    before: tuple[EarlierCode, ...] = ()


def record_code(view: RunView) -> None:
    """Write `made_by.json` of a run; other code that it names moves to `before`."""
    code, earlier = current_code(), MadeBy()
    with suppress(InvalidFile):
        earlier, _ = parse(MadeBy, view.read_bytes(FILE) or b"")
    last, before = EarlierCode(**earlier.model_dump(exclude={"before"})), earlier.before
    if last.at is not None and (last.version, last.commit) != (code.version, code.commit):
        before = (*before, last)
    made_by = MadeBy(version=code.version, commit=code.commit, at=now(), before=before)
    view.write_json(FILE, made_by.to_json())


@lru_cache
def current_code() -> CodeVersion:
    """Return the running code's version and commit.

    The commit is that of the checkout; an installed package has the value of UNDERSTUDY_COMMIT instead.
    """
    version = commit = None
    with suppress(metadata.PackageNotFoundError):
        version = metadata.version("understudy-distill")
    if (_CHECKOUT / ".git").exists():  # a checkout around the environment is another project
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # do not disturb a commit in progress
        with suppress(OSError, subprocess.SubprocessError):  # git is missing, or refuses the folder's owner
            found = subprocess.run(
                command, cwd=_CHECKOUT, capture_output=True, text=True, timeout=10, check=True, env=env
            )
            commit = found.stdout.strip() or None
    else:
        commit = os.environ.get(COMMIT_VARIABLE, "").strip() or None
    return CodeVersion(version=version, commit=commit)
