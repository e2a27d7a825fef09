"""A live teacher labels val and test: one request per text, none for stored answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.completions.journal import Journal
from core.config import PromptsConfig, RulesConfig, TeacherConfig
from core.errors import TeacherError
from core.pipeline.run_context import RunContext
from core.records import Example, SplitName, write_examples
from core.stage import StageIO
from core.store import Store
from core.teacher import stage
from tests.building import small_config
from tests.core.teacher.live.textbook import REPO, examples
from tests.servers.teacher import TeacherServer

Label = Callable[..., dict[str, Any]]


@pytest.fixture
def label(server: TeacherServer, tmp_path: Path) -> Label:
    """Runs the sample stage on texts of a split, under one root; returns its summary."""
    store = Store.open(str(tmp_path / "root"))

    def labelled(split: SplitName, texts: list[Example], run: str = "r", **config: Any) -> dict[str, Any]:
        values = {
            "kind": "openai",
            "base_url": server.base_url,
            "api_key_env": "TEST_TEACHER_KEY",
            "model": "gpt-4o-mini",
            "max_tokens": 200,
            "attempts": 3,
            "hint": True,
            "limits": {"concurrency": 8, "tries": 2},
            **config,
        }
        settings = stage.SampleSettings(
            teacher=TeacherConfig.model_validate(values),
            rules=RulesConfig(dir=str(REPO / "rules/sms")),
            prompts=PromptsConfig(file=str(REPO / "prompts/default.yaml")),
            split=split,
        )
        (tmp_path / "split").mkdir(exist_ok=True)
        write_examples(tmp_path / f"split/{split}.csv", texts)
        of = RunContext(small_config(), lambda: Journal.open(store, run))
        io = StageIO({"split": tmp_path / "split"}, tmp_path / split, run=of)
        io.out.mkdir(exist_ok=True)
        return stage.sample(settings, io)

    return labelled


def turned(texts: list[Example]) -> list[Example]:
    """The same texts with gold labels that the endpoint's first answer never names."""
    return [Example(e.id, e.text, 1 - e.label) for e in texts]


def test_each_text_is_requested_once_at_temperature_0(
    server: TeacherServer, label: Label, tmp_path: Path
) -> None:
    summary = label("test", turned(examples(12)))
    assert server.totals().received == 12
    assert {seen.body["temperature"] for seen in server.seen()} == {0.0}
    first = summary["first_answers"]
    assert (first["tp"], first["tn"], first["fp"] + first["fn"]) == (0, 0, 12)
    rows = list(jsonio.read_jsonl(tmp_path / "test/teacher_samples.jsonl"))
    assert {(r["k_index"], r["hinted"], r["split"]) for r in rows} == {(0, False, "test")}


def test_stored_answer_is_reused_by_other_splits_and_runs(server: TeacherServer, label: Label) -> None:
    label("train", turned(examples(6)), attempts=2)
    before = server.totals().received
    assert before >= 12, "no first answer agrees with gold"
    assert label("test", turned(examples(8)))["ledger"]["asked_now"] == 2
    assert label("test", turned(examples(8)), run="another", attempts=1)["ledger"]["reused"] == 8
    assert label("val", examples(8))["ledger"]["asked_now"] == 0, "gold is not part of a first attempt"
    assert server.totals().received == before + 2


def test_unanswered_texts_stop_the_run_with_the_name_of_their_split(
    server: TeacherServer, label: Label
) -> None:
    label("val", examples(4))
    server.fail("server_error", ids=["t04", "t05"])
    with pytest.raises(
        TeacherError, match=r"2 of 6 texts of test got no answer: .* teacher\.max_missing to 2"
    ):
        label("test", examples(6))
    summary = label("test", examples(6), max_missing=2)
    assert (summary["missing"], summary["answered"]) == (2, 4)
    assert summary["notices"][0].startswith("2 of 6 texts of test have no answer (")
