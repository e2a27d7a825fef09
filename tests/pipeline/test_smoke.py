"""A smoke run: few rows under a name of its own, nothing published, and answers that the full run reuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config.loading import load
from core.errors import UserError
from core.pipeline.smoke import FILE, Projection, full_split
from core.store import Store, pointers, run_names
from tests.pipeline.running import LABELS_ONLY, run, smoke
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import write_texts
from tests.small_project import texts


def test_a_smoke_run_leaves_the_full_run_and_its_pointers_alone(project: Path) -> None:
    folder = run(project, *LABELS_ONLY)
    store = Store.at(str(folder.parents[1]))
    before = {name: pointers.read(store, name) for name in pointers.names(store)}
    record = (folder / "stages.json").read_text()

    found = smoke(project, 8, *LABELS_ONLY, "student.steps=40")
    assert {name: pointers.read(store, name) for name in pointers.names(store)} == before
    assert (folder / "stages.json").read_text() == record
    assert run_names(store) == ["small", "small-smoke"]
    sizes = json.loads((folder.parent / "small-smoke/run_summary.json").read_text())["sizes"]
    assert {name: size["rows"] for name, size in sizes.items()} == {"train": 8, "val": 8, "test": 8}

    written = json.loads((folder.parent / "small-smoke" / FILE).read_text())
    assert Projection.from_json(written, FILE) == found
    assert (found.run, found.steps, found.sizes["train"]) == ("small", 40, 42)
    assert found.teacher is None
    assert found.student is None
    stages = json.loads((folder.parent / "small-smoke/stages.json").read_text())
    assert {"train/2", "train/4", "bundle"} <= set(stages)


def test_another_smoke_run_keeps_the_earlier_one_and_the_same_one_is_reused(project: Path) -> None:
    first = smoke(project, 8, *LABELS_ONLY, only=["split"])
    assert smoke(project, 8, *LABELS_ONLY, only=["split"]) == first
    smoke(project, 9, *LABELS_ONLY, only=["split"])
    names = run_names(Store.at("out"))
    assert len(names) == 2
    assert names[0] == "small-smoke"
    assert names[1].startswith("small-smoke.2")


def test_rows_of_one_class_are_refused_before_any_work(project: Path) -> None:
    rows = "".join(f"n{i},A text about number {i} and more,0\n" for i in range(600))
    with Path("texts.csv").open("a") as f:
        f.write(rows)
    full = load(project, LABELS_ONLY)
    with pytest.raises(UserError, match="rarer label") as e:
        full_split(full, 8)
    needed = int(str(e.value).partition("give --smoke ")[2].split()[0])
    full_split(full, needed)
    assert needed < 40


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TeacherServer]:
    monkeypatch.setenv("TEST_TEACHER_KEY", "key")
    asked = write_texts(
        tmp_path / "asked.jsonl", {i: text for i, text, _ in texts()}, tmp_path / "answers.jsonl"
    )
    with endpoint.serve(asked) as started:
        yield started


def test_answers_that_a_smoke_run_paid_for_are_not_paid_for_again(
    project: Path, server: TeacherServer
) -> None:
    teacher = (
        f"teacher={{kind: openai, base_url: '{server.base_url}', api_key_env: TEST_TEACHER_KEY, "
        "model: gpt-4o-mini, max_tokens: 200, attempts: 1}",
    )
    asking = ["split", "sample"]
    found = smoke(project, 8, *teacher, only=asking)
    assert server.totals().received == 8
    assert found.teacher is not None
    assert found.teacher.requests == 42 - 8
    assert found.teacher.usd is not None
    assert found.teacher.usd > 0
    run(project, *teacher, only=asking)
    assert server.totals().received == 42
