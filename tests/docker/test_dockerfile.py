"""The image: what goes into it, as whom it runs, and that nothing else does."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from tests.docker.reading import DOCKER, REPO, TOOLS, Instruction, instructions, kept_out

TARGETS = ("s3", "understudy")


def of(stage: str, name: str) -> list[Instruction]:
    """A stage's instructions of one name."""
    return [i for i in instructions() if (i.stage, i.name) == (stage, name)]


def copied() -> list[str]:
    """What is copied from the build context, in all stages."""
    copies = [i for i in instructions() if i.name == "COPY" and "--from=" not in i.rest]
    return [source for copy in copies for source in copy.words[:-1]]


def test_hadolint_has_nothing_to_say() -> None:
    found = subprocess.run(
        [str(TOOLS / "hadolint"), "--no-color", "--failure-threshold", "none", str(DOCKER / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_hadolint_would_speak_of_a_fault() -> None:
    found = subprocess.run(
        [str(TOOLS / "hadolint"), "-"],
        input="FROM debian\nRUN cd /\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "DL3006" in found.stdout


@pytest.mark.parametrize("stage", TARGETS)
def test_what_runs_is_a_user_with_a_number(stage: str) -> None:
    """A name would leave an engine unable to see that it is not root."""
    assert [user.rest for user in of(stage, "USER")] == ["10001:10001"]
    after = instructions()[instructions().index(of(stage, "USER")[0]) :]
    assert not [i for i in after if i.stage == stage and i.name in {"RUN", "COPY", "ADD"}]


@pytest.mark.parametrize("stage", TARGETS)
def test_what_runs_tells_how_it_is(stage: str) -> None:
    assert len(of(stage, "HEALTHCHECK")) == 1


@pytest.mark.parametrize("stage", TARGETS)
def test_what_runs_starts_from_the_plain_image_and_has_no_build_tool(stage: str) -> None:
    assert of(stage, "FROM")[0].words[0] == "base"
    assert [
        run for run in of(stage, "RUN") if re.search(r"\b(apt|apt-get|pip|uv|gcc|curl|wget)\b", run.rest)
    ] == []
    fetched = [copy for copy in of(stage, "COPY") if "--from=" in copy.rest]
    assert fetched
    assert all(copy.words[0].startswith("/opt/") for copy in fetched)


def test_images_come_by_argument_with_a_short_name_and_a_tag() -> None:
    made = {i.stage for i in instructions() if i.name == "FROM"}
    outer = [i.words[0] for i in instructions() if i.name == "FROM" and i.words[0] not in {*made, "scratch"}]
    defaults = dict(i.rest.split("=") for i in instructions() if i.name == "ARG" and i.stage == "")
    assert outer == ["${PYTHON_IMAGE}"]
    assert re.fullmatch(r"[a-z]+:[0-9][a-z0-9.-]+", defaults["PYTHON_IMAGE"])


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    assert len(copied()) > 10
    assert [source for source in copied() if not (REPO / source).exists()] == []
    assert [source for source in copied() if kept_out(source)] == []


PRIVATE = (
    ".git/config",
    ".venv/bin/python",
    "artifacts/runs/x/train.log",
    ".env",
    "docker/.env",
    "dataset/.env",
)
USELESS = (
    "tests/conftest.py",
    "core/__pycache__/errors.pyc",
    "docker/compose.yaml",
    ".hypothesis/x",
    "dist/x.whl",
)


@pytest.mark.parametrize("path", [*PRIVATE, *USELESS])
def test_what_is_private_or_of_no_use_does_not_reach_the_build(path: str) -> None:
    assert kept_out(path)


@pytest.mark.parametrize("path", ["core/report/templates/report.css", "flows/cli/__init__.py", "rules/sms"])
def test_what_a_run_needs_reaches_the_build(path: str) -> None:
    assert not kept_out(path)


def test_nothing_reaches_the_build_that_is_not_copied() -> None:
    let_in = {line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == set(copied())


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert f'org.opencontainers.image.version="{project["version"]}"' in of("understudy", "LABEL")[0].rest
    assert (
        f'org.opencontainers.image.description="{project["description"]}"'
        in of("understudy", "LABEL")[0].rest
    )


def test_uv_is_the_makefiles() -> None:
    version = re.search(r"^UV_VERSION := (.+)$", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert version
    assert f"UV_VERSION={version[1]}" in [arg.rest for arg in of("builder", "ARG")]


def test_all_that_is_locked_with_hashes_is_installed_by_them() -> None:
    installs = [i.rest for i in instructions() if i.name == "RUN" and "uv pip install" in i.rest]
    hashed = [i for i in installs if re.search(r"run\.lock|weed\.lock", i)]
    assert len(hashed) == 2
    assert all("--require-hashes" in i for i in hashed)
