"""Locations on the command line: every command normalizes them equally and rejects misspelled ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.config.loading import load
from core.pipeline.run import describe_plan
from core.pipeline.runners import switches
from core.store import RunView, Store, pointers
from flows.cli.commands import cli
from flows.cli.console import local_output, readable, writable
from tests.building import build_split
from tests.flows.running import understudy
from tests.small_project import write_project


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a cache for this test."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


def fill(root: str) -> None:
    """A run with a published bundle, which is damaged, and an object that nothing refers to."""
    store = Store.open(root)
    for key in ("b1", "unused"):
        folder = store.begin("bundle", key)
        (folder / "bundle").mkdir()
        (folder / "bundle/bundle.json").write_text("{}")
        made = store.commit("bundle", key, folder, {}, {})
        if key == "b1":
            RunView(store, "first").record("bundle", made, reused=False)
            content = {"bundle_path": f"{made.folder}/bundle"}
            pointers.publish(store, "first", content, [f"{made.folder}/bundle"])


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_ls_gc_and_predict_agree_about_every_spelling_of_a_root(
    here: Path, where: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(here) if where == "disk" else request.getfixturevalue("s3_root")
    fill(f"{base}//a//b/")
    for root in (f"{base}//a//b/", f"{base}/a\\b", f"{base}/a/x/../b", f"{base}/a/b"):
        assert understudy("ls", "--root", root, "--json") == 0
        assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["first"]
        assert understudy("gc", "--root", root, "--grace", "0") == 0
        assert capsys.readouterr().out.splitlines()[0].endswith("bundle unused")
        assert understudy("predict", "--root", root, "--text", "x") == 2
        assert "bundle.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("root", ["out//a/", "out\\a", "./out/a/.", "out/b/../a"])
def test_plan_reuses_objects_of_another_spelling_of_the_root(here: Path, root: str) -> None:
    (here / "model").mkdir()  # plan reads its digest, no more
    (here / "model/config.json").write_text("{}")
    (here / "model/model.safetensors").write_bytes(b"weights")
    resolved = load(write_project(here, "./model"), [f"run.root={root}"])
    build_split(Store.open("out/a"), resolved.config)
    plan = describe_plan(resolved, switches(resolved.config.stages))
    assert plan.splitlines()[0] == f"run small under {here}/out/a"
    assert next(line for line in plan.splitlines() if line.startswith("split")).split()[1] == "reuse"


def test_every_option_for_a_location_checks_its_spelling() -> None:
    names = {"--root", "--input", "--output", "--model", "--base-model"}
    unchecked = [
        f"{command.name} {option.opts[0]}"
        for command in [*cli.commands.values(), *cli.commands["checkpoints"].commands.values()]  # type: ignore[attr-defined]
        for option in command.params
        if names & set(option.opts) and option.callback not in (readable, writable, local_output)
    ]
    assert unchecked == []


@pytest.mark.parametrize("root", ["s3:/bucket/x", "$HOME/art", "", "C:\\art"])
@pytest.mark.parametrize(
    "command",
    [
        ["ls"],
        ["gc"],
        ["gc", "--delete"],
        ["rm", "x"],
        ["summary"],
        ["compare", "a", "b"],
        ["evaluate", "--run", "x"],
        ["predict", "--text", "x"],
        ["checkpoints", "rm", "tinker://x"],
    ],
    ids=" ".join,
)
def test_every_command_rejects_a_misspelled_root_by_its_option(
    here: Path, capsys: pytest.CaptureFixture[str], command: list[str], root: str
) -> None:
    assert understudy(*command, "--root", root) == 2
    assert capsys.readouterr().err.startswith("error: --root: ")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["predict", "--input", "s3:/bucket/x.csv"], "--input"),
        (["predict", "--input", "$HOME/x.csv", "--output", "y.csv"], "--input"),
        (["predict", "--input", "x.csv", "--output", "s3//bucket/y.csv"], "--output"),
        (["predict", "--input", "x.csv", "--output", "$OUT/y.csv"], "--output"),
        (["predict", "--model", "${HOME}/bundle", "--text", "x"], "--model"),
        (["predict", "--model", "~no-such-user/bundle", "--text", "x"], "--model"),
        (["predict", "--base-model", "$HOME/model", "--text", "x"], "--base-model"),
        (["summary", "--output", "s3:/bucket/x.csv"], "--output"),
        (["summary", "--output", "s3://bucket/x.csv"], "--output"),
        (["compare", "a", "b", "--output", "$HOME/out"], "--output"),
        (["import-config", "x.json", "--output", "${HOME}/x.yaml"], "--output"),
    ],
)
def test_every_option_for_a_location_rejects_a_misspelled_one(
    here: Path, capsys: pytest.CaptureFixture[str], command: list[str], option: str
) -> None:
    assert understudy(*command) == 2
    assert capsys.readouterr().err.startswith(f"error: {option}: ")
    assert list(here.iterdir()) == []
