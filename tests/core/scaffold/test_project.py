"""What `init` writes loads and splits from any folder; it replaces nothing and is never half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.config.loading import load
from core.data import labeled_rows
from core.data.stage import SplitSettings, split
from core.errors import DataError, UserError
from core.pipeline.run_context import check_files
from core.scaffold import Options, Project, plan_project, table_file, write_project
from core.stage import StageIO
from tests.core.scaffold.tables import texts, with_column, write


def start(path: Path, out: Path, **given: Any) -> Project:
    options = {k: given.pop(k) for k in list(given) if k not in ("teacher", "model")}
    project = plan_project(str(path), str(out), Options(**options), **given)
    write_project(project)
    return project


def test_what_is_written_runs_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("my table.csv"), with_column(texts(), "id", [str(i) for i in range(60)]))
    project = start(Path("my table.csv"), Path("new project"))
    there = sorted(str(p.relative_to("new project")) for p in Path("new project").rglob("*") if p.is_file())
    assert there == sorted(project.files)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resolved = load(Path("../new project/config.yaml"))
    check_files(resolved.config)
    assert resolved.run_name == "new-project"
    assert resolved.config.run.root == str(tmp_path / "new project/artifacts")
    assert (resolved.config.teacher.kind, resolved.config.student.target) == ("gold", "label_only")
    Path("out").mkdir()
    assert split(SplitSettings.of(resolved.config), StageIO({}, Path("out")))["counts"]["total"] == 60


def test_a_teacher_needs_only_its_key_and_the_rules(tmp_path: Path) -> None:
    project = start(write(tmp_path / "t.csv", texts()), tmp_path / "p", teacher="openai", model="me/model")
    config = load(project.folder / "config.yaml").config
    assert (config.teacher.kind, config.teacher.preset, config.teacher.budget.usd) == ("openai", "openai", 5)
    assert (config.student.target, config.student.model) == ("label_first", "me/model")
    check_files(config)


def test_the_commented_teacher_of_a_gold_config_is_one_that_loads(tmp_path: Path) -> None:
    project = plan_project(str(write(tmp_path / "t.csv", texts())), str(tmp_path / "p"))
    lines = project.files["config.yaml"].splitlines()
    commented = [line for line in lines if line.startswith(("  # kind:", "  # preset:", "  # budget:"))]
    text = "\n".join(line.replace("# ", "", 1) if line in commented else line for line in lines)
    text = text.replace("  kind: gold", "  # kind: gold").replace("target: label_only", "target: label_first")
    (tmp_path / "live.yaml").write_text(text)
    assert len(commented) == 3
    assert load(tmp_path / "live.yaml").config.teacher.preset == "deepseek"


def test_labels_with_names_are_in_config_prompts_and_rules(tmp_path: Path) -> None:
    head, *rows = texts()
    named = [head, *([row[0], "wants {{ money }}: #1" if row[1] == "1" else "other"] for row in rows)]
    project = start(write(tmp_path / "t.csv", named), tmp_path / "p")
    config = load(project.folder / "config.yaml").config
    assert (config.data.positive, config.data.negative) == (("wants {{ money }}: #1",), ("other",))
    assert "wants {{ money }}: #1 (1) or other (0)" in project.files["prompts.yaml"]
    check_files(config)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", texts())
    (tmp_path / "empty").mkdir()
    start(path, tmp_path / "empty")
    before = (tmp_path / "empty/config.yaml").read_text()
    project = plan_project(str(path), str(tmp_path / "late"))
    for place in ("empty", "t.csv"):
        with pytest.raises(UserError, match="nothing is overwritten; name another folder with --out"):
            plan_project(str(path), str(tmp_path / place))
    (tmp_path / "late").mkdir()
    (tmp_path / "late/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        write_project(project)
    assert [p.name for p in (tmp_path / "late").iterdir()] == ["mine.txt"]
    assert (tmp_path / "empty/config.yaml").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "late", "t.csv"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda rows: [rows[0], [rows[1][0], ""], *rows[2:]],
            "1 of 60 rows .*--max-bad-rows 1:\n.*t.csv:2: .* missing",
        ),
        (lambda rows: [*rows, ["", "1"]], "1 of 61 rows cannot be used.*\n.*:62: the text .* is empty"),
        (lambda rows: rows[:4], "would have no rows"),
    ],
)
def test_rows_that_a_run_would_stop_at_are_named(tmp_path: Path, change: Any, sentence: str) -> None:
    path = write(tmp_path / "t.csv", change(texts()))
    with pytest.raises(DataError, match=sentence):
        start(path, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_unusable_rows_can_be_skipped_and_leaks_are_dropped(tmp_path: Path) -> None:
    rows = with_column([*texts(), texts()[1], ["", "1"]], "split", ["train", "train", "val", "test"])
    rows[-2][-1] = "test"
    project = start(write(tmp_path / "t.csv", rows), tmp_path / "p", max_bad_rows=1)
    config = load(project.folder / "config.yaml").config.data
    assert (config.max_bad_rows, config.leaks, config.split_column) == (1, "drop", "split")
    assert len(labeled_rows.read(config).bad) == 1


def test_of_a_large_table_only_a_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "SAMPLE_ROWS", 5_000)
    project = start(write(tmp_path / "t.csv", texts(5_001)), tmp_path / "p")
    config = load(project.folder / "config.yaml").config.data
    assert (config.max_train_examples, config.max_val_examples, config.max_test_examples) == (1000, 400, 0)
    assert ("rows", "more than 5,000; only the first 5,000 were read") in project.findings


def test_the_default_folder_is_named_after_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "my orders (2026).csv", texts())
    assert plan_project(str(path)).folder == tmp_path / "my-orders-2026"
