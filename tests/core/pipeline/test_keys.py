"""Keys are opt-out: the key table lists which field changes the key of which stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from core.config import CONTENT, RULES, Config
from core.config.loading import fields_at, leaves, load
from tests.core.pipeline.key_line import Line, PathLine
from tests.core.pipeline.key_table import LINES, PATHS, fields
from tests.core.pipeline.making import BASE, Made, Maker, context, keys, make_texts
from tests.small_project import REPO, texts


@pytest.fixture(autouse=True)
def project(made: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The small project with files for these tests, and a key for a server that receives no request."""
    monkeypatch.setenv("TINKER_API_KEY", "tml-tests")
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    folder = made.folder / "parts"
    if not folder.is_dir():
        folder.mkdir()
        rows = [f'{id_},"{text}",{label}' for id_, text, label in texts()]
        parts = {"train": rows[:40], "val": rows[40:50], "test": rows[50:]}
        for name, part in parts.items():
            (folder / f"{name}.csv").write_text("\n".join(["id,text,label", *part]) + "\n")
        named = [f"{row.partition(',')[0]},{name}" for name, part in parts.items() for row in part]
        (made.folder / "splits.csv").write_text("\n".join(["id,split", *named]) + "\n")
        prompts = yaml.safe_load((made.folder / "prompts.yaml").read_text())
        shown = {k: v.replace("{{ task_instruction }}", "") for k, v in prompts.items()}
        (made.folder / "without_task.yaml").write_text(yaml.safe_dump(shown))
    return made


KEYS_BEFORE: dict[tuple[str, ...], dict[str, str]] = {}
"""The keys after the changes that lines start from: most lines share them."""


def moved(made: Made, before: Sequence[str], change: Sequence[str]) -> set[str]:
    """The stages whose keys the change affects while their inputs stay the same."""
    start = tuple(before)
    if start not in KEYS_BEFORE:
        KEYS_BEFORE[start] = keys(context(made.config, before), made.manifests, made.store)
    new = keys(context(made.config, [*before, *change]), made.manifests, made.store)
    return {name for name, key in KEYS_BEFORE[start].items() if key != new[name]}


def config_fields() -> list[str]:
    """Every leaf of the config, and every field of every rejection rule."""
    found = [".".join(key) for key in leaves(Config)]
    found += [f"rejection.rules.{name}.{f}" for name, rule in RULES.items() for f in rule.model_fields]
    return found


def value(config: Config, field: str) -> object:
    """The value of a field; None inside a missing section."""
    at: object = config
    for part in field.split("."):
        at = getattr(at, part, None)
    return at


def named(entry: Line | PathLine) -> str:
    """A test's id: the field, and what was set before."""
    before = [text for text in entry.before if not text.startswith(("data.", "rejection."))]
    what = entry.file if isinstance(entry, PathLine) else entry.change[0].partition("=")[2]
    return " ".join([entry.field, what, *before])[:70]


def test_every_config_field_has_a_line_in_the_key_table() -> None:
    assert set(config_fields()) - set(fields()) == set()


def test_every_line_of_the_key_table_names_an_existing_field() -> None:
    assert set(fields()) - set(config_fields()) == set()


def contents() -> Iterator[str]:
    """The fields whose contents, not paths, are in keys."""
    for key in leaves(Config):
        section = fields_at(key[:-1])
        if section is not None and CONTENT in section[key[-1]].metadata:
            yield ".".join(key)


def test_every_path_is_in_the_keys_by_content() -> None:
    assert {entry.field for entry in PATHS} == set(contents())


@pytest.mark.parametrize("entry", LINES, ids=named)
def test_a_field_changes_exactly_the_keys_of_its_line(project: Made, entry: Line) -> None:
    assert moved(project, entry.before, entry.change) == entry.moves, entry.why


@pytest.mark.parametrize("entry", [e for e in LINES if not e.field.startswith("rejection.rules.")], ids=named)
def test_a_line_changes_its_field(project: Made, entry: Line) -> None:
    """And only what the line lists besides, so that the field causes the change."""
    old = load(project.config, [*BASE, *entry.before]).config
    new = load(project.config, [*BASE, *entry.before, *entry.change]).config
    changed = {text.partition("=")[0] for text in entry.change}
    differing = {f for f in map(".".join, leaves(Config)) if value(old, f) != value(new, f)}
    assert entry.field in differing
    assert all(any(f"{f}.".startswith(f"{key}.") for key in changed) for f in differing)


def copied(made: Made, entry: PathLine, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """A copy of what the field names at another path, and the override for it."""
    source = Path(str(value(load(made.config, [*BASE, *entry.before]).config, entry.field)))
    copy = folder / "elsewhere" / source.name
    copy.parent.mkdir()
    shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    return copy, (f"{entry.field}={copy}",)


@pytest.mark.parametrize("entry", PATHS, ids=named)
def test_the_same_contents_at_another_path_change_no_key(
    project: Made, entry: PathLine, tmp_path: Path
) -> None:
    _, change = copied(project, entry, tmp_path)
    assert moved(project, entry.before, change) == set()


@pytest.mark.parametrize("entry", PATHS, ids=named)
def test_other_contents_change_exactly_the_keys_of_the_line(
    project: Made, entry: PathLine, tmp_path: Path
) -> None:
    copy, change = copied(project, entry, tmp_path)
    file = copy / entry.file if entry.file else copy
    text = file.read_text()
    assert entry.old in text
    file.write_text(text.replace(entry.old, entry.new))
    assert moved(project, entry.before, change) == entry.moves, entry.why


# The promises, with everything that follows from a change: each stage reads what the one before made.


def made_again(made: Made, *change: str) -> list[str]:
    """The stages without an engine that are built again in the same store after a change."""
    maker = Maker(made.store, context(made.config, change))
    make_texts(maker)
    return [slot for slot, stage in maker.stages.items() if stage.key != made.stages[slot].key]


def edited(made: Made, folder: Path, name: str, old: str, new: str) -> str:
    """A copy of one of the project's files with some text replaced."""
    text = (made.folder / name).read_text()
    assert old in text
    (folder / Path(name).name).write_text(text.replace(old, new))
    return str(folder / Path(name).name)


def test_changing_the_learning_rate_reuses_teacher_answers_and_rejection(project: Made) -> None:
    assert made_again(project, "student.learning_rate=1e-4") == []


def test_changing_a_rejection_limit_reuses_teacher_answers(project: Made) -> None:
    limit = "rejection.rules=[unparsed, {rule: quote_not_in_text, max_missing: 1}]"
    assert made_again(project, limit) == ["reject", "encode"]


def test_changing_one_rule_text_samples_again(project: Made, tmp_path: Path) -> None:
    shutil.copytree(project.folder / "rules", tmp_path / "rules")
    edited(project, tmp_path / "rules", "rules/R2_people.txt", "People", "Persons")
    assert made_again(project, f"rules.dir={tmp_path / 'rules'}")[:2] == ["sample", "reject"]


def test_changing_one_teacher_prompt_samples_again(project: Made, tmp_path: Path) -> None:
    file = edited(project, tmp_path, "prompts.yaml", "You apply a policy", "You apply policies")
    assert made_again(project, f"prompts.file={file}") == ["sample"]


def test_changing_only_the_students_prompt_reuses_teacher_answers(project: Made, tmp_path: Path) -> None:
    file = edited(project, tmp_path, "prompts.yaml", "Label and reason:", "Label, reason:")
    assert made_again(project, f"prompts.file={file}") == ["encode"]


def test_changing_the_root_or_the_log_level_changes_no_key(project: Made) -> None:
    assert moved(project, (), ("run.root=elsewhere", "run.log_level=ERROR", "run.name=other")) == set()


_KEYS = """
import json, sys
from pathlib import Path
from core.store.objects import Store
from tests.core.pipeline.making import Maker, context, keys, make_texts

of = context(Path(sys.argv[1]))
maker = Maker(Store.open("out"), of)
make_texts(maker)
print(json.dumps([keys(of, maker.manifests, maker.store), "torch" in sys.modules]))
"""


def test_keys_are_the_same_in_every_process_and_need_no_torch(project: Made) -> None:
    texts_only = {slot: project.manifests[slot] for slot in ("split", "sample", "reject", "encode")}
    expected = keys(context(project.config), texts_only, project.store)
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONPATH": str(REPO), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", _KEYS, str(project.config)]
        found = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
        assert json.loads(found.stdout) == [expected, False]
