"""The files of docker/ as their readers take them: instructions, patterns, services, variables."""

from __future__ import annotations

import fnmatch
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]
DOCKER = REPO / "docker"
# Where the tools are that came with the packages of the tests.
TOOLS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, continuation lines joined, in the stage that it belongs to."""

    stage: str
    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """What stands behind the instruction, as a list in either of its two forms, without flags."""
        if self.rest.startswith("["):
            return [str(word) for word in json.loads(self.rest)]
        return [word for word in self.rest.split() if not word.startswith("--")]


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions in order; those before the first FROM have the stage ''."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    out: list[Instruction] = []
    stage = ""
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stage = rest.split()[-1]
        if name:
            out.append(Instruction(stage, name, rest.strip()))
    return out


def kept_out(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build; the last pattern that fits it, or a folder above
    it, decides."""
    folders = [path, *(str(p) for p in Path(path).parents if str(p) != ".")]
    out = False
    for line in (REPO / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        if any(_fits(folder, pattern) for folder in folders):
            out = not line.startswith("!")
    return out


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatch(Path(path).name, pattern.removeprefix("**/"))
    return path.count("/") == pattern.count("/") and fnmatch.fnmatch(path, pattern)


def compose() -> dict[str, Any]:
    """compose.yaml with its anchors followed and its variables as they stand."""
    found = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert isinstance(found, dict)
    return found


def variables() -> dict[str, str]:
    """Each variable that compose.yaml names, and what it says where there is none: `-cpu`, `:?a message`."""
    return dict(re.findall(r"\$\{([A-Z0-9_]+)((?::?[-?])[^}]*)?\}", (DOCKER / "compose.yaml").read_text()))


def example() -> tuple[dict[str, str], dict[str, str]]:
    """The names of .env.example with their values: those that are set, and those shown in a comment."""
    lines = (DOCKER / ".env.example").read_text().splitlines()
    pairs = [m.groups() for line in lines if (m := re.fullmatch(r"(#?)([A-Z0-9_]+)=(.*)", line))]
    return ({k: v for c, k, v in pairs if not c}, {k: v for c, k, v in pairs if c})
