"""Bad input ends a run with an error that names the place and a remedy, without losing work."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from core.errors import UnderstudyError
from tests.pipeline.running import LABELS_ONLY, run


def change(config: Path, **sections: object) -> None:
    """Merge sections into the project's config file."""
    values = yaml.safe_load(config.read_text())
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    config.write_text(yaml.safe_dump(values))


def lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines()


def missing_file(config: Path) -> None:
    (config.parent / "texts.csv").unlink()


def empty_file(config: Path) -> None:
    (config.parent / "texts.csv").write_text("")


def one_class(config: Path) -> None:
    folder = config.parent
    kept = [line for i, line in enumerate(lines(folder, "texts.csv")) if i == 0 or not line.endswith(",1")]
    (folder / "texts.csv").write_text("\n".join(kept) + "\n")


def label_outside_the_map(config: Path) -> None:
    text = (config.parent / "texts.csv").read_text()
    (config.parent / "texts.csv").write_text(text + "t99,a text of ours,maybe\n")


def no_room(config: Path) -> None:
    change(config, student={"max_length": 32})


def no_rules(config: Path) -> None:
    for path in (config.parent / "rules").iterdir():
        path.unlink()


def misspelt_variable(config: Path) -> None:
    (config.parent / "p.yaml").write_text(
        "task_instruction: x\nteacher_user: '{{ text }} {{ rulebok }}'\nstudent_user: '{{ text }}'\n"
    )
    change(config, prompts={"file": "p.yaml"})


def template_without_text(config: Path) -> None:
    (config.parent / "p.yaml").write_text(
        "task_instruction: x\nteacher_user: '{{ text }}'\nstudent_user: 'what?'\n"
    )
    change(config, prompts={"file": "p.yaml"})


def no_such_model(config: Path) -> None:
    change(config, student={"model": "./no-such-model"})


def no_such_package(config: Path) -> None:
    change(config, student={"model": "package://no-such-dist/model.gguf"})


def broken_answers(config: Path) -> None:
    with (config.parent / "answers.jsonl").open("a") as f:
        f.write('{"id": "t01", "raw_out\n')


def leak(config: Path) -> None:
    folder = config.parent
    head, *rows = lines(folder, "texts.csv")
    for name, part in (("train", rows[:40]), ("val", rows[40:50]), ("test", rows[50:] + rows[:1])):
        (folder / f"{name}.csv").write_text("\n".join([head, *part]) + "\n")
    change(config, data={"path": None, "files": {n: f"{n}.csv" for n in ("train", "val", "test")}})


CASES: list[tuple[Callable[[Path], None], list[str]]] = [
    (missing_file, ["{folder}/texts.csv"]),
    (empty_file, ["texts.csv", "empty"]),
    (one_class, ["train", "class"]),
    (label_outside_the_map, ["texts.csv:62", "maybe"]),
    (no_room, ["without its text", "student.max_length is 32: raise it to more than"]),
    (no_rules, ["{folder}/rules", "*.txt"]),
    (misspelt_variable, ["p.yaml:2", "rulebok", "rulebook"]),
    (template_without_text, ["p.yaml:3", "student_user", "text"]),
    (no_such_model, ["no-such-model"]),
    (no_such_package, ["the distribution no-such-dist is not installed", "correct student.model"]),
    (broken_answers, ["answers.jsonl:61"]),
    (leak, ["leak"]),
]


@pytest.mark.parametrize(("harm", "words"), CASES, ids=[harm.__name__ for harm, _ in CASES])
def test_a_users_mistake_is_an_error_that_names_it(
    project: Path, harm: Callable[[Path], None], words: list[str]
) -> None:
    harm(project)
    with pytest.raises(UnderstudyError) as e:
        run(project)
    assert e.value.exit_code == 2
    for word in words:
        assert word.format(folder=project.parent) in str(e.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate disk of 600 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here: it takes the rights to do so")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_fails_cleanly_and_the_run_continues_later(project: Path, small_disk: Path) -> None:
    change(project, run={"root": str(small_disk / "out")})
    with pytest.raises(UnderstudyError, match="No space left on device") as e:
        run(project, *LABELS_ONLY)
    assert e.value.exit_code == 1
    stages = small_disk / "out/objects"
    made = {p.parent.name: p.read_bytes() for p in stages.glob("*/*.json")}
    assert "split" in made

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    folder = run(project, *LABELS_ONLY)
    split = next((stages / "split").glob("*.json"))
    assert split.read_bytes() == made["split"]
    assert json.loads((folder / "stages.json").read_text())["split"]["reused"]
