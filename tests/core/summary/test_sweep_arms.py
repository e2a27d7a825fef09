"""Sweep files: their arms, and errors of invalid files."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.loading import parse_scalar
from core.errors import ConfigError
from core.summary.sweep_arms import Sweep, SweepFile, load_sweep, read_sweep_file

REPO = Path(__file__).resolve().parents[3]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = PLAIN | st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "S", "Zs"]), max_size=8)
GRIDS = st.dictionaries(
    st.sampled_from(
        ["student.epochs", "student.lora.rank", "export.max_new_tokens", "evaluation.max_new_tokens"]
    ),
    st.lists(VALUES | st.lists(st.integers(), max_size=2), min_size=2, max_size=3),
    min_size=1,
    max_size=3,
)
"""Keys and the values that they take, two at least."""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def points(folder: Path, text: str) -> dict[str, tuple[str, ...]]:
    return dict(read_sweep_file(written(folder, f"base: base.yaml\n{text}")).points())


def test_arms_and_grid_are_crossed_and_named_after_both(tmp_path: Path) -> None:
    found = points(
        tmp_path,
        "arms: {plain: [], control: [student.rationales=shuffled]}\n"
        "grid: {student.learning_rate: [1e-4, 2e-3], student.seeds: [[1, 2]]}\n",
    )
    assert found == {
        "plain-learning_rate-0.0001-seeds-1-2": ("student.learning_rate=0.0001", "student.seeds=[1, 2]"),
        "plain-learning_rate-0.002-seeds-1-2": ("student.learning_rate=0.002", "student.seeds=[1, 2]"),
        "control-learning_rate-0.0001-seeds-1-2": (
            "student.rationales=shuffled",
            "student.learning_rate=0.0001",
            "student.seeds=[1, 2]",
        ),
        "control-learning_rate-0.002-seeds-1-2": (
            "student.rationales=shuffled",
            "student.learning_rate=0.002",
            "student.seeds=[1, 2]",
        ),
    }


def test_keys_with_the_same_last_part_are_written_in_full(tmp_path: Path) -> None:
    found = points(tmp_path, "grid: {evaluation.max_new_tokens: [8], export.max_new_tokens: [8, 16]}\n")
    assert list(found) == [
        "evaluation.max_new_tokens-8-export.max_new_tokens-8",
        "evaluation.max_new_tokens-8-export.max_new_tokens-16",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {a: [student.epochs=1]}", "fewer than two arms: there is nothing to compare"),
        ("arms: {a: [], b: [run.name=x]}", "run.name is set by the sweep"),
        ("arms: {a: [], b: ['run={root: elsewhere}']}", "run is set by the sweep"),
        ("grid: {' run.name': [a, b]}", "run.name is set by the sweep"),
        ("grid: {run.root: [a, b]}", "run.root is set by the sweep"),
        ("grid: {student.epochs: []}", "grid.student.epochs has no values"),
        ("arms: {'a b': [], c: []}", "a name has letters, digits, dots, dashes and underscores only"),
        (
            "student: {epochs: 2}",
            "mine.yaml:2: student is not a key of a sweep; there are: base, name, arms, grid",
        ),
        ("arms: {a: student.epochs=1}", "mine.yaml:2: arms.a: "),
        ("arms: {a: [], a: []}", "mine.yaml:2: arms.a occurs twice"),
        ("name: a/b\narms: {a: [], b: []}", "mine.yaml:2: name: "),
    ],
)
def test_an_invalid_sweep_is_one_sentence_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml") as error:
        read_sweep_file(written(tmp_path, f"base: base.yaml\n{text}\n"))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="base is missing"):
        read_sweep_file(written(tmp_path, "arms: {a: [], b: []}"))


def loaded(folder: Path, text: str, *overrides: str) -> Sweep:
    """A sweep on a base config of its own."""
    (folder / "base.yaml").write_text(
        "data: {path: x.csv, text_column: t, label_column: l}\nteacher: {answers: a.jsonl}\n"
    )
    return load_sweep(written(folder, f"base: {folder}/base.yaml\n{text}\n"), overrides)


@given(GRIDS, st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3))
def test_a_grid_is_crossed_in_the_order_of_the_file(grid: dict[str, list[Any]], arms: list[str]) -> None:
    file = SweepFile(base="b", arms={name: (f"seed={i}",) for i, name in enumerate(arms)}, grid=grid)
    points = list(file.points())
    crossed = list(itertools.product(arms or [""], *grid.values()))
    assert len(points) == len(crossed)
    for (name, sets), (arm, *values) in zip(points, crossed, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        assert name.startswith(f"{arm}-" if arm else "")
        *own, _ = [*sets[: len(sets) - len(grid)], None]
        assert own == ([f"seed={arms.index(arm)}"] if arm else [])
        given = [text.split("=", 1) for text in sets[len(own) :]]
        assert [key for key, _ in given] == list(grid)
        assert [parse_scalar(text) for _, text in given] == values


@pytest.mark.parametrize(
    ("text", "name", "sets"),
    [
        ("grid: {seed: [8, '8']}", "seed-8", ("seed=8", 'seed="8"')),
        ("grid: {seed: [8, -8]}", "seed-8", ("seed=8", "seed=-8")),
        (
            "arms: {a: [], a-task_instruction-1: []}\n"
            "grid: {prompts.task_instruction: [1-task_instruction-1, '1']}",
            "a-task_instruction-1-task_instruction-1",
            ('="1-task_instruction-1"', '="1"'),
        ),
    ],
)
def test_two_arms_of_one_name_are_refused_with_what_they_set(
    tmp_path: Path, text: str, name: str, sets: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError, match=f"two arms are called {name}") as refused:
        loaded(tmp_path, text)
    assert all(each in str(refused.value) for each in sets)


def test_a_name_that_no_file_system_takes_is_refused_with_its_length(tmp_path: Path) -> None:
    value = "Decide whether the rules apply. " * 8
    with pytest.raises(ConfigError, match=r"arm task_instruction-Decide.*has \d{3} characters, and 200 are"):
        loaded(tmp_path, f"grid: {{prompts.task_instruction: ['{value}', short]}}")
    assert [
        arm.name for arm in loaded(tmp_path, f"arms: {{a: ['prompts.task_instruction={value}'], b: []}}").arms
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {a: [], b: [student.epoch=2]}", r"^arm b: --set: student\.epoch is not a key; .*epochs"),
        ("arms: {a: [], b: [student.epochs=many]}", r"^arm b: --set: student\.epochs: .*'many'"),
        ("grid: {student.epochs: [2, -1]}", r"^arm epochs-1: --set: student\.epochs: "),
        ("arms: {a: [], b: [student.epochs]}", r"^arm b: --set wants key=value"),
        ("arms: {a: [], b: ['student.epochs=[']}", r"^arm b: --set: '\[' is not a YAML value"),
        ("arms: {a: ['teacher={kind: gold}'], b: []}", r"^arm a: .*student\.target: label_only"),
    ],
)
def test_a_mistake_in_one_arm_names_the_arm_before_any_runs(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, text)


def test_each_of_several_mistakes_names_the_arm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, "arms: {a: [], b: [student.epoch=2, seed=x]}")
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("arm b: --set: ") for line in lines)


def test_a_mistake_of_the_base_is_not_an_arms(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--set: student\.epoch is not a key"):
        loaded(tmp_path, "arms: {a: [], b: []}", "student.epoch=2")
    with pytest.raises(ConfigError, match=r"no config file at .*/nowhere\.yaml"):
        load_sweep(written(tmp_path, f"base: {tmp_path}/nowhere.yaml\narms: {{a: [], b: []}}"))


def test_overrides_change_the_base_and_arms_come_after_them(tmp_path: Path) -> None:
    text = "arms: {a: [], b: [student.epochs=3, publish=true]}"
    sweep = loaded(tmp_path, text, "student.epochs=2", "run.name=night", "evaluation.metric=auroc")
    configs = {arm.run: arm.resolved.config for arm in sweep.arms}
    assert {run: (c.student.epochs, c.publish) for run, c in configs.items()} == {
        "night-a": (2, False),
        "night-b": (3, True),
    }
    assert (sweep.name, sweep.root, sweep.metric) == ("mine", "artifacts", "auroc")
    assert sweep.arms[1].sets == ("student.epochs=3", "publish=true")


def test_a_sweep_file_may_be_json_and_have_a_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base": "b.yaml", "name": "Second_try.2", "grid": {"seed": [1, 2]}}))
    found = read_sweep_file(path)
    assert (found.name, dict(found.points())) == (
        "Second_try.2",
        {"seed-1": ("seed=1",), "seed-2": ("seed=2",)},
    )


def test_the_shipped_sweep_has_its_four_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    sweep = load_sweep(Path("configs/sweep.yaml"), ["student.epochs=1"])
    configs = {arm.name: arm.resolved.config for arm in sweep.arms}
    assert {name: c.student.target for name, c in configs.items()} == {
        "label_only": "label_only",
        "label_first": "label_first",
        "reason_first": "reason_first",
        "shuffled": "label_first",
    }
    assert [arm.name for arm in sweep.arms if arm.is_control] == ["shuffled"]
    assert {arm.run for arm in sweep.arms} == {f"sms-{name}" for name in configs}
    assert not any(c.publish or c.student.rulebook for c in configs.values())
    assert all(c.student.epochs == 1 for c in configs.values())
