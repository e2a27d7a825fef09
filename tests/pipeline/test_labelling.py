"""The teacher labels the splits in teacher.label_splits: in the plan, and in a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from core.completions.journal import Journal
from core.config.loading import load
from core.cost import Usage, cost, load_prices
from core.pipeline.run import describe_plan
from core.pipeline.run_context import RunContext
from core.pipeline.runners import Switches
from core.store import Store
from tests.building import build_sample, build_split
from tests.pipeline.running import LABELS_ONLY, run
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import write_texts
from tests.small_project import REPO, texts

NOTHING_OFF = Switches(frozenset(), frozenset())


def line(plan: str, slot: str) -> str:
    """The plan's line for a stage."""
    found = re.search(rf"^{slot} +(.*)$", plan, re.MULTILINE)
    assert found is not None, plan
    return found[1]


def asking(server: TeacherServer, *splits: str) -> str:
    """Overrides that ask the server's teacher, for these splits besides train."""
    teacher = {
        "kind": "openai",
        "base_url": server.base_url,
        "model": "gpt-4o-mini",
        "api_key_env": None,
        "attempts": 2,
        "prices": str(REPO / "configs/prices.yaml"),
        "label_splits": splits,
    }
    return f"teacher={json.dumps(teacher)}"


def test_a_plan_has_a_line_and_a_price_for_each_split_the_teacher_answers(project: Path) -> None:
    with endpoint.serve() as server:
        resolved = load(project, [asking(server, "test", "val")])
        store = Store.open(resolved.config.run.root)
        of = RunContext(resolved.config, lambda: Journal.open(store, resolved.run_name))
        parts = build_split(store, of.config)
        plan = describe_plan(resolved, NOTHING_OFF)
        assert [line(plan, f"sample{more}") for more in ("", "/test", "/val")] == ["run: not made before"] * 3
        assert line(plan, "reject") == "waits for sample"
        assert "asking gpt-4o-mini about train: 42 (42 to 84) calls, tokens counted by: a token for" in plan
        assert "asking gpt-4o-mini about test: 9 calls, tokens counted by: a token for 4 bytes" in plan
        assert re.search(r"^in all: 60 \(60 to 102\) calls; \$\S+ \(\$\S+ to \$\S+\); \d+ s \(", plan, re.M)

        build_sample(store, of, parts)
        build_sample(store, of, parts, "test")
        labeled = describe_plan(resolved, NOTHING_OFF)
        assert line(labeled, "sample/test").startswith("reuse (built ")
        assert "asking gpt-4o-mini about test: 0 calls" in labeled
        wanted = r"asking gpt-4o-mini about val: 9 calls, tokens counted by: the server's own counts in (\d+)"
        found = re.search(wanted, labeled)
        assert found is not None, labeled
        assert int(found[1]) == server.totals().answered, "train's and test's answers tell of val's"


def test_a_plan_without_other_splits_is_as_short_as_before(project: Path) -> None:
    resolved = load(project)
    store = Store.open(resolved.config.run.root)
    build_split(store, resolved.config)
    plan = describe_plan(resolved, NOTHING_OFF)
    assert "sample/" not in plan
    assert "asking" not in plan


def test_the_ledger_counts_every_request_once(project: Path) -> None:
    known = {name: text for name, text, _ in texts()}
    recorded = write_texts(project.parent / "known.jsonl", known, project.parent / "answers.jsonl")
    with endpoint.serve(recorded) as server:
        for name, splits in (("one", ["test"]), ("two", ["test", "val"])):
            folder = run(project, *LABELS_ONLY, asking(server, *splits), f"run.name={name}")
            ledger = json.loads((folder / "ledger.json").read_text())
            teacher, asked = ledger["teacher"], server.totals()
            assert teacher["requests_of_the_run"] == teacher["asked_now"] == asked.answered
            assert teacher["prompt_tokens_of_the_run"] == asked.prompt_tokens
            assert teacher["completion_tokens_of_the_run"] == asked.completion_tokens
            price = load_prices(REPO / "configs/prices.yaml").models["gpt-4o-mini"]
            usage = Usage(asked.prompt_tokens, asked.completion_tokens, asked.cached_tokens)
            assert ledger["usd"] == pytest.approx(cost(usage, price), abs=1e-5)
    assert teacher["runs"] == ["one", "two"], "train and test were answered to the first"


def test_a_run_writes_the_teachers_answers_to_every_labeled_split(project: Path) -> None:
    answers = (project.parent / "answers.jsonl").read_text().splitlines()
    folder = run(project, "teacher.label_splits=[test]", only=["split", "sample"])
    rows = (folder / "teacher_phase/teacher_samples_test.jsonl").read_text().splitlines()
    test = (folder / "data_splits/test.csv").read_text().splitlines()[1:]
    assert [json.loads(row)["example_id"] for row in rows] == [text.split(",")[0] for text in test]
    summary = json.loads((folder / "teacher_phase/sample_summary_test.json").read_text())
    assert summary["answered"] == len(test)
    assert json.loads((folder / "stages.json").read_text())["sample/test"]["reused"] is False
    assert not (folder / "teacher_phase/teacher_samples_val.jsonl").exists()
    assert len(answers) > len(test), "the same file answers train"
