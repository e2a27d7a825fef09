"""The plan's calls, tokens and costs, compared with the bill of a real server."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.completions.journal import Journal
from core.config import PromptsConfig, RulesConfig, TeacherConfig
from core.cost import load_prices
from core.progress import Silent
from core.prompts import TEXT_SLOT, load_prompts
from core.records import Example
from core.rulebook import load_rulebook
from core.store import Store
from core.teacher.live import LiveTeacher, forecast
from core.teacher.parsing import LabelNames
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import write_texts
from tests.servers.teacher_orders import Prices

REPO = Path(__file__).resolve().parents[4]
PROMPTS = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
RULES = load_rulebook(RulesConfig(dir=str(REPO / "rules/sms"))).text
MODEL = "gpt-4o-mini"


class Desk:
    """A server with texts of its own, and teachers that ask it for one root."""

    def __init__(self, folder: Path, server: TeacherServer, examples: list[Example]) -> None:
        self.server, self.examples = server, examples
        self.store = Store.open(str(folder / "root"))

    def teacher(self, **config: object) -> LiveTeacher:
        values = {
            "kind": "openai",
            "base_url": self.server.base_url,
            "api_key_env": "TEST_TEACHER_KEY",
            "model": MODEL,
            "max_tokens": 1000,
            "prices": str(REPO / "configs/prices.yaml"),
        }
        teacher = TeacherConfig.model_validate({**values, **config})
        names = LabelNames()
        return LiveTeacher(teacher, PROMPTS, RULES, names, lambda: Journal.open(self.store, "r"))

    def ask(self, count: int, **config: object) -> None:
        rows = self.examples[:count]
        assert len(list(self.teacher(**config).answers(rows, count, Silent()))) == count

    def bill_of_the_rest(self, **config: object) -> float:
        before = self.server.totals().money
        self.ask(len(self.examples), **config)
        return self.server.totals().money - before


def answer(label: int, words: int) -> str:
    return json.dumps({"reasoning": "because it says so " * words + "[R1]", "label": label})


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """`request.param`: how much lengths of texts and answers vary (sigma of a lognormal)."""
    monkeypatch.setenv("TEST_TEACHER_KEY", "key")
    spread, rng = request.param, random.Random(5)
    price = load_prices(REPO / "configs/prices.yaml").price_of(MODEL)
    assert price is not None
    assert price.cached_input is not None
    texts = {f"t{i:03}": f"{i:03} " + "word " * round(60 * rng.lognormvariate(0, spread)) for i in range(240)}
    examples = [Example(name, text, rng.randrange(2)) for name, text in texts.items()]
    # One first answer in five disagrees with gold, so that a second attempt is needed.
    recorded = tmp_path / "recorded.jsonl"
    with recorded.open("w", encoding="utf-8") as f:
        for i, e in enumerate(examples):
            for attempt in range(2):
                label = 1 - e.label if attempt == 0 and i % 5 == 4 else e.label
                raw = answer(label, round(12 * rng.lognormvariate(0, spread)))
                f.write(json.dumps({"id": e.id, "sample": attempt, "raw_output": raw}) + "\n")
    before, _, after = PROMPTS.teacher_messages(TEXT_SLOT, RULES)[-1].content.partition(TEXT_SLOT)
    file = write_texts(tmp_path / "texts.jsonl", texts, recorded)
    bill = Prices(prompt=price.input, cached=price.cached_input, completion=price.output)
    with endpoint.serve(file, frames=[(before, after)], prices=bill) as server:
        yield Desk(tmp_path, server, examples)


@pytest.mark.parametrize(("desk", "within"), [(0.0, 0.05), (0.6, 0.20)], indirect=["desk"])
def test_forecast_after_twenty_answers_is_close_to_the_bill(desk: Desk, within: float) -> None:
    desk.ask(20, attempts=1)
    teacher = desk.teacher(attempts=1)
    with Journal.open(desk.store, "r") as journal:
        found, counter = forecast(teacher, desk.examples, journal)
    assert found.calls.low == found.calls.mean == found.calls.high == 220
    assert counter == "the server's own counts in 20 answers"
    assert found.usd is not None
    assert found.usd.mean == pytest.approx(desk.bill_of_the_rest(attempts=1), rel=within)


@pytest.mark.parametrize("desk", [0.6], indirect=True)
def test_forecast_expects_the_attempts_of_finished_texts(desk: Desk) -> None:
    desk.ask(60, attempts=3)
    with Journal.open(desk.store, "r") as journal:
        found, _ = forecast(desk.teacher(attempts=3), desk.examples, journal)
    assert found.calls.low == 180
    assert found.calls.mean == pytest.approx(180 * 1.2)
    assert found.calls.high == 180 * 3
    assert found.usd is not None
    assert found.usd.mean == pytest.approx(desk.bill_of_the_rest(attempts=3), rel=0.2)


@pytest.mark.parametrize("desk", [0.6], indirect=True)
def test_forecast_without_answers_is_marked_as_a_guess(desk: Desk) -> None:
    with Journal.open(desk.store, "r") as journal:
        found, counter = forecast(desk.teacher(attempts=1), desk.examples, journal)
    assert (found.calls.mean, counter) == (240, "a token for 4 bytes, a guess")
    assert found.usd is not None
    assert found.usd.low <= desk.bill_of_the_rest(attempts=1) <= found.usd.high


@pytest.mark.parametrize("desk", [0.0], indirect=True)
def test_forecast_counts_all_requests_of_a_text(desk: Desk) -> None:
    rows = desk.examples
    with Journal.open(desk.store, "plan") as journal:
        found, _ = forecast(desk.teacher(attempts=4, keep=3, hint=True), rows, journal)
    assert (found.calls.low, found.calls.mean, found.calls.high) == (
        3 * len(rows),
        3 * len(rows),
        5 * len(rows),
    )
