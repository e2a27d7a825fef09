"""Commands of the README and the tutorial are executed; those of all other pages are parsed.

Executed, in the order of the page and on the small project's texts and model: shell commands on files,
Python blocks, and `understudy`. `run` and `baseline` are parsed by the command line and then executed without
Prefect, with which `tests/flows` runs them. The tutorial's teacher is a server on loopback.

Only parsed: `make TARGET` (the target exists), and what changes the shell or starts a server (SHELL); the
service of the tutorial is asked in this process instead. On all pages: subcommand, options and values of
every `understudy` command, keys of --set, and keys of config examples.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from core.config.loading import fields_at
from flows.cli.commands import cli
from tests.pipeline import running
from tests.servers import teacher as endpoint
from tests.servers.teacher_answers import write_texts
from tests.small_project import REPO, texts, write_project

README, TUTORIAL = REPO / "README.md", REPO / "docs/tutorial.md"
PAGES = sorted([README, *REPO.glob("docs/*.md"), *REPO.glob("configs/*.md"), *REPO.glob("d*/README.md")])
SHELL = ("source", "uvicorn", "curl", "export")
"""Commands that are not executed: they change the shell, start a server, or ask it."""
SMALL: Mapping[str, Mapping[str, Any]] = {
    "student": {
        "lora": {"rank": 2, "alpha": 4},
        "epochs": None,
        "steps": 2,
        "max_length": 256,
        "engine": {"threads": 1, "train_dtype": "float32"},
    },
    "evaluation": {"interval": 2},
    "export": {"splits": ["test"], "label_only": False, "reasoning_rows": 0},
    "baselines": {"other_prompt": False, "encoder": None},
}
"""Settings that make a run quick."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the file that it is saved as or "", and its text."""

    language: str
    file: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The commands of a shell block; none of a block in another language."""
        return self.text.splitlines() if self.language == "sh" else []


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = re.findall(r"^```(\w*)(.*)\n((?:.*\n)*?)```$", page.read_text(), flags=re.M)
    return [Block(kind, "".join(re.findall('title="(.+)"', more)), text) for kind, more, text in found]


def understudy_commands(page: Path) -> list[list[str]]:
    """The arguments of each `understudy` command in the shell blocks of a page, those of pipes too."""
    found = [arguments(line) for block in blocks(page) for line in block.lines]
    return [words for words in found if words]


def arguments(line: str) -> list[str]:
    """What a line, or a part of its pipe, passes to `understudy`; empty if it does not call it."""
    words = shlex.split(line, comments=True)
    pipe = [list(part) for bar, part in groupby(words, "|".__eq__) if not bar]
    called = next((part[1:] for part in pipe if part[0] == "understudy"), [])
    # --help ends the program where it is parsed.
    return [word for word in takewhile(">".__ne__, called) if word != "--help"]


def parsed(words: list[str]) -> click.Context:
    """The context of a command with its options. Raises click's errors for what it does not have."""
    context = cli.make_context("understudy", list(words))
    while isinstance(group := context.command, click.Group):
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_command_on_a_page_exists_with_its_options_and_keys(page: Path) -> None:
    for words in understudy_commands(page):
        options = parsed(words).params
        for override in options.get("overrides", ()):
            key = tuple(override.partition("=")[0].split("."))
            assert key[-1] in fields_at(key[:-1]), override
        for stage in (*options.get("only", ()), *options.get("refresh", ())):
            assert stage in fields_at(("stages",)), stage


def keys(values: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key path of a config example."""
    for name, value in values.items():
        yield (*at, name)
        if isinstance(value, dict) and fields_at((*at, name)):
            yield from keys(value, (*at, name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_key_of_a_config_example_exists(page: Path) -> None:
    examples = [yaml.safe_load(block.text) for block in blocks(page) if block.language == "yaml"]
    found = [key for example in examples if "arms" not in example for key in keys(example)]
    assert [key for key in found if key[-1] not in fields_at(key[:-1])] == []


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who carries out a page in a folder of their own."""

    folder: Path
    model: Path
    teacher: str
    """Address of the endpoint that is asked in place of a paid one."""

    def carry_out(self, page: Path) -> None:
        """Save each file of a page, execute each command and each block of Python."""
        for block in blocks(page):
            for line in block.lines:
                self.execute(line)
            if block.file:
                Path(block.file).write_text(block.text)
                if block.language == "yaml":
                    self.shrink(Path(block.file))
            elif block.language == "python":
                exec(compile(block.text, str(page), "exec"), {})

    def shrink(self, path: Path) -> None:
        """Put the small model, and the endpoint, into a config that was just written."""
        config = yaml.safe_load(path.read_text())
        config |= {name: {**config.get(name, {}), **settings} for name, settings in SMALL.items()}
        config["student"]["model"] = str(self.model)
        if config["teacher"]["kind"] == "openai":
            config["teacher"]["base_url"] = self.teacher
        path.write_text(yaml.safe_dump(config))

    def execute(self, line: str) -> None:
        """Execute one command, unless it is one of those that are only parsed."""
        program, *words = shlex.split(line, comments=True)
        if program == "make":
            assert re.search(rf"^{words[0]}:", (REPO / "Makefile").read_text(), re.M), line
        elif program == "cd":
            os.chdir(words[0])
        elif program == "understudy":
            self.understudy(words)
        elif program not in SHELL:
            subprocess.run(["bash", "-euc", line], check=True)

    def understudy(self, words: list[str]) -> None:
        context = parsed(words)
        given = context.params
        if context.info_name == "baseline":
            running.baseline(given["config"], *given["overrides"], skip=given["skip"])
        elif context.info_name == "run" and given["smoke"]:
            running.smoke(given["config"], given["smoke"], *given["overrides"])
        elif context.info_name == "run":
            switches = {name: given[name] for name in ("only", "skip", "refresh", "new")}
            running.run(given["config"], *given["overrides"], **switches)
        else:
            done = CliRunner().invoke(cli, words, catch_exceptions=False)
            assert done.exit_code == 0, done.output
        if context.info_name == "init":
            self.shrink(Path(given["out"] or Path(given["table"]).stem) / "config.yaml")


@pytest.fixture
def reader(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader in an empty folder, with a key for a teacher that knows the small project's answers."""
    known = tmp_path / "known"
    known.mkdir()
    write_project(known, tiny_model)
    answers = known / "answers.jsonl"
    recorded = write_texts(known / "known.jsonl", {id: text for id, text, _ in texts()}, answers)
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "any")
    with endpoint.serve(recorded) as server:
        yield Reader(folder, tiny_model, server.base_url)


def test_the_readmes_commands_lead_from_a_table_to_predictions(reader: Reader) -> None:
    write_project(reader.folder, reader.model)
    shutil.copy("texts.csv", "new.csv")
    reader.carry_out(README)
    assert len((reader.folder / "scored.csv").read_text().splitlines()) == len(texts()) + 1


def test_the_tutorial_leads_from_a_table_to_a_served_model(reader: Reader) -> None:
    from fastapi.testclient import TestClient

    write_project(reader.folder, reader.model)
    table = Path("texts.csv").read_text()
    (example,) = (block for block in blocks(TUTORIAL) if block.language == "csv")
    assert table.splitlines()[0] == example.text.splitlines()[0]
    Path("messages.csv").write_text(table)
    reader.carry_out(TUTORIAL)

    assert Path.cwd() == reader.folder / "messages"
    assert len(Path("scored.csv").read_text().splitlines()) == len(texts()) + 1
    served: dict[str, Any] = {}
    exec(Path("serve.py").read_text(), served)
    (asked,) = (line for block in blocks(TUTORIAL) for line in block.lines if line.startswith("curl"))
    with served["student"], TestClient(served["app"]) as client:
        answer = client.post("/predictions", json=json.loads(shlex.split(asked)[2])).raise_for_status().json()
    assert [0 <= each["probability"] <= 1 for each in answer] == [True]
