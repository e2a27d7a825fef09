"""A package that is installed next to Understudy adds a part of each kind, and pipelines use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_project import write_project

PACKAGE = Path(__file__).with_name("package")
REPO = Path(__file__).resolve().parents[2]
SETTINGS = [
    "run.name=plugged",
    "rejection.rules=[unparsed, {rule: shouts, max_marks: 0}, label_mismatch]",
    "student.engine={kind: one_thread}",
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
    "reinforce.rewards={is_short: 1.0}",
]
RUN = """
import json, sys
import understudy
from pathlib import Path
from core.config.loading import load
from core.pipeline.opening import reopened
from core.pipeline.runners import Runner
from understudy_example.stage import count_lengths

config = load(Path("small.yaml"), sys.argv[1:])
understudy.run(config)
understudy.reinforce(config)
with reopened("out", "plugged", Runner) as run:
    count_lengths(run, "words")
assert "prefect" not in sys.modules
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example package is installed."""
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(PACKAGE)], check=True)
    return site


def test_a_run_uses_a_rule_a_metric_a_reward_an_engine_a_section_and_a_stage(
    installed: Path, tmp_path: Path, tiny_model: Path
) -> None:
    config = write_project(tmp_path, tiny_model)
    text = config.read_text()
    assert "threads: 1" in text
    config.write_text(_without_engine_settings(text))
    answers = tmp_path / "answers.jsonl"
    first, *others = answers.read_text().splitlines()
    shouted = json.loads(first)
    shouted["reasoning"] += " Indeed!"
    answers.write_text("\n".join([json.dumps(shouted), *others]))

    env = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{installed}"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *SETTINGS], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

    folder = tmp_path / "out/runs/plugged"
    rejected = [json.loads(line) for line in (folder / "teacher_phase/rejected_samples.jsonl").open()]
    assert [(row["example_id"], row["reject_reason"]) for row in rejected] == [("t00", "shouts")]
    summary = json.loads((folder / "run_summary.json").read_text())
    assert summary["selection_metric"] == "specificity"
    analysis = json.loads((folder / "student_phase/analysis.json").read_text())
    assert 0 <= analysis["scorers"]["student"]["intervals"]["specificity"]["value"] <= 1
    assert "Exclamation marks in the worst errors: " in (folder / "test_report.md").read_text()
    pointer = json.loads((tmp_path / "out/model/latest.json").read_text())
    assert pointer["engine"] == "one_thread"
    history = [json.loads(line) for line in (folder / "rl_phase/rl_history.jsonl").open()]
    assert all(step["reward_is_short"] == 1.0 for step in history)
    assert json.loads((folder / "lengths.json").read_text())["longest"] > 3


def _without_engine_settings(config: str) -> str:
    """The small project's config without the settings of the local engine."""
    import yaml

    values = yaml.safe_load(config)
    values["student"].pop("engine", None)
    return yaml.safe_dump(values)
