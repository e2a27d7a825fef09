"""The diffs in CONTRIBUTING.md apply to the source, and a pipeline uses every part that they add."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.small_project import write_project

REPO = Path(__file__).resolve().parents[1]
SETTINGS = [
    "run.name=extended",
    "rejection.rules=[unparsed, {rule: hedges, phrases: [indeed]}, label_mismatch]",
    "student.engine=one_thread",
    "student.target=label_only",
    "student.steps=2",
    "evaluation.interval=2",
    "export.splits=[test]",
    "export.reasoning_rows=0",
    "baselines.other_prompt=false",
    "evaluation.metric=specificity",
    "reinforce.steps=1",
    "reinforce.interval=1",
    "reinforce.batch_size=2",
    "reinforce.group_size=2",
    "reinforce.max_new_tokens=4",
    "reinforce.rewards={one_paragraph: 1.0}",
]
RUN = """
import sys
import understudy

config = understudy.load_config("small.yaml", sys.argv[1:])
understudy.run(config)
understudy.reinforce(config)
"""


def test_every_diff_applies_and_its_part_is_used(tmp_path: Path, tiny_model: Path) -> None:
    source = tmp_path / "source"
    for package in ("core", "flows", "tasks", "understudy", "prompts", "configs"):
        shutil.copytree(REPO / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    diffs = re.findall(r"```diff\n(.*?)```", (REPO / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len(diffs) == 6
    for diff in diffs:
        subprocess.run(["git", "apply", "-"], input=diff, text=True, check=True, cwd=source)

    project = tmp_path / "project"
    project.mkdir()
    config = write_project(project, tiny_model)
    config.write_text(re.sub(r"(?m)^  engine:.*\n(?:    .*\n)*", "", config.read_text()))
    answers = project / "answers.jsonl"
    first, *others = answers.read_text().splitlines()
    doubtful = json.loads(first)
    doubtful["reasoning"] += " Indeed."
    answers.write_text("\n".join([json.dumps(doubtful), *others]))
    done = subprocess.run(
        [sys.executable, "-c", RUN, *SETTINGS],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    folder = project / "out/runs/extended"
    rejected = [json.loads(line) for line in (folder / "teacher_phase/rejected_samples.jsonl").open()]
    assert [(row["example_id"], row["reject_reason"]) for row in rejected] == [("t00", "hedges")]
    assert json.loads((folder / "run_summary.json").read_text())["selection_metric"] == "specificity"
    assert "Length of errors" in (folder / "test_report.md").read_text()
    assert json.loads((project / "out/model/latest.json").read_text())["engine"] == "one_thread"
    history = [json.loads(line) for line in (folder / "rl_phase/rl_history.jsonl").open()]
    assert all(step["reward_one_paragraph"] == 1.0 for step in history)
    assert json.loads((folder / "lengths.json").read_text())["texts"] > 3
