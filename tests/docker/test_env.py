""".env.example names what compose.yaml asks for, and new_env.sh fills it with values nobody can guess."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docker.reading import DOCKER, REPO, example, variables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The two files in a folder of their own."""
    for name in (".env.example", "new_env.sh"):
        shutil.copy(DOCKER / name, tmp_path)
    return tmp_path


def made(folder: Path) -> dict[str, str]:
    subprocess.run(["sh", str(folder / "new_env.sh")], check=True, capture_output=True)
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_each_secret_is_long_random_and_its_own(folder: Path) -> None:
    first = made(folder)
    (folder / ".env").unlink()
    second = made(folder)
    assert list(first) == list(example()[0])
    values = [*first.values(), *second.values()]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values)


def test_only_its_owner_reads_it(folder: Path) -> None:
    made(folder)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600


def test_one_that_is_there_stays(folder: Path) -> None:
    """The volumes were made with its passwords."""
    before = made(folder)
    again = subprocess.run(["sh", str(folder / "new_env.sh")], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "stays as it is" in again.stderr
    (folder / ".env.example").write_text("OTHER=\n")
    assert set(before) <= set((folder / ".env").read_text().replace("=", "\n").splitlines())


def test_what_is_needed_is_asked_for_and_has_no_value() -> None:
    needed, _ = example()
    assert set(needed.values()) == {""}
    assert {name for name, rest in variables().items() if rest.startswith(":?")} == set(needed)


def test_what_may_be_set_is_shown_with_its_default() -> None:
    _, shown = example()
    optional = {name: rest for name, rest in variables().items() if not rest.startswith(":?")}
    assert set(shown) == set(optional)
    secret = {name for name in optional if re.search(r"KEY|TOKEN", name)}
    assert {shown[name] for name in secret} == {"..."}
    assert {n: rest.lstrip(":-") for n, rest in optional.items() if n not in secret} == {
        n: value for n, value in shown.items() if n not in secret
    }


def test_the_readme_says_what_each_is() -> None:
    rows = [line for line in (DOCKER / "README.md").read_text().splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row.split("|")[1])}
    assert told == set(variables())


def test_git_ignores_it() -> None:
    asked = subprocess.run(["git", "check-ignore", "docker/.env"], cwd=REPO, capture_output=True, check=True)
    assert asked.stdout == b"docker/.env\n"
