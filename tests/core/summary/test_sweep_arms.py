"""Sweep files: their arms, and errors of invalid files."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigError
from core.summary.sweep_arms import load_sweep, read_sweep_file

REPO = Path(__file__).resolve().parents[3]


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
        ("grid: {run.root: [a, b]}", "run.root is set by the sweep"),
        ("grid: {student.epochs: []}", "grid.student.epochs has no values"),
        ("arms: {'a b': [], c: []}", "a name has letters, digits, dots, dashes and underscores only"),
        (
            "student: {epochs: 2}",
            "mine.yaml:2: student is not a key of a sweep; there are: base, name, arms, grid",
        ),
        ("arms: {a: student.epochs=1}", "mine.yaml:2: arms.a: "),
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


def test_an_invalid_arm_is_named_when_the_sweep_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "data: {path: x.csv, text_column: t, label_column: l}\nteacher: {answers: a.jsonl}\n"
    )
    path = written(tmp_path, f"base: {tmp_path}/base.yaml\narms: {{a: [], b: [student.epoch=2]}}\n")
    with pytest.raises(ConfigError, match=r"^arm b: --set: student\.epoch is not a key; did you mean epochs"):
        load_sweep(path)


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
