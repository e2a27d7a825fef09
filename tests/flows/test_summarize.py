"""The summarize flow: its file, and a table on Prefect's pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.store import Store
from tests.core.summary.making import put, write_facts, write_run

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.parametrize("root", ["disk"], indirect=True),
]


def test_the_flow_writes_the_file_and_a_table_sorted_by_score(
    store: Store, root: str, tmp_path: Path
) -> None:
    from prefect.artifacts import Artifact

    from flows.distill import summarize

    for run, macro_f1 in (("a", 0.5), ("b", 0.75), ("c", None)):
        write_run(store, run, modes=["reasoning"], macro_f1=macro_f1)
    write_facts(store, "b")
    put(store, "runs/notes.txt", "mine")
    path = summarize(root, str(tmp_path / "s.csv"))
    assert path == str(tmp_path / "s.csv")
    assert Path(path).read_text(encoding="utf-8").startswith("# train\nrun_dir,")
    artifact: Any = Artifact.get("summary")
    assert artifact.description.startswith(f"3 runs under {root}, on test")
    assert artifact.description.endswith("- runs/notes.txt: is a file; runs are folders")
    rows = json.loads(artifact.data)
    assert [(row["run"], row["macro_f1"]) for row in rows] == [("b", 0.75), ("a", 0.5), ("c", None)]
    assert (rows[0]["usd"], rows[0]["commit"]) == (1.5, "c" * 40)


def test_the_flow_of_an_empty_root_writes_nothing(root: str, tmp_path: Path) -> None:
    from flows.distill import summarize

    assert summarize(root, str(tmp_path / "s.csv")) is None
    assert not (tmp_path / "s.csv").exists()
