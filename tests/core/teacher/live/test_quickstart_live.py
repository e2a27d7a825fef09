"""The quickstart's texts, answered live, give the accepted samples of the recorded answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from core import jsonio
from core.completions.journal import Journal
from core.config.loading import load
from core.pipeline.run import describe_plan
from core.pipeline.run_context import RunContext
from core.pipeline.runners import Switches
from core.prompts import TEXT_SLOT
from core.store import Manifest, Store
from tests.building import build_reject, build_sample, build_split
from tests.servers import teacher as endpoint
from tests.servers.teacher_answers import write_texts

REPO = Path(__file__).resolve().parents[4]


@pytest.mark.usefixtures("smollm2_folder")
def test_live_and_recorded_answers_give_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPO)
    monkeypatch.setenv("TEST_TEACHER_KEY", "key")
    store = Store.open(str(tmp_path / "root"))
    recorded = RunContext(load(Path("configs/sms.yaml")).config)
    split, wanted = accepted(recorded, store)

    user = recorded.prompts.teacher_messages(TEXT_SLOT, recorded.rulebook.text)[-1].content
    before, _, after = user.partition(TEXT_SLOT)
    with store.file(split, "train.csv").open(encoding="utf-8", newline="") as f:
        texts = {row["id"]: row["text"] for row in csv.DictReader(f)}
    file = write_texts(tmp_path / "texts.jsonl", texts, Path("dataset/sms/teacher_answers.jsonl"))
    with endpoint.serve(file, frames=[(before, after)]) as server:
        server.delay(0.01, tail="pareto", seed=3)
        changes = {
            "run.root": str(tmp_path / "root"),
            "run.name": "live",
            "teacher": {
                "kind": "openai",
                "base_url": server.base_url,
                "model": "gpt-4o-mini",
                "api_key_env": "TEST_TEACHER_KEY",
                "attempts": 1,
                "max_tokens": 200,
            },
        }
        overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        resolved = load(Path("configs/sms.yaml"), overrides)
        live = RunContext(resolved.config, lambda: Journal.open(store, "live"))
        nothing_off = Switches(frozenset(), frozenset())
        plan = describe_plan(resolved, nothing_off)
        assert "asking gpt-4o-mini: 400 calls, tokens counted by: a token for 4 bytes, a guess" in plan
        _, found = accepted(live, store)
        assert found == wanted
        assert server.totals().answered == 400
        assert "asking gpt-4o-mini: 0 calls" in describe_plan(resolved, nothing_off)


def accepted(of: RunContext, store: Store) -> tuple[Manifest, list[tuple[str, int, str]]]:
    """The split, and what rejection kept of the teacher's answers."""
    parts = build_split(store, of.config)
    answers = build_sample(store, of, parts).manifest
    kept = build_reject(store, of, parts, answers).manifest
    rows = jsonio.read_jsonl(store.file(kept, "accepted_samples.jsonl"))
    return parts, [(row["sample_id"], row["label"], row["reasoning"]) for row in rows]
