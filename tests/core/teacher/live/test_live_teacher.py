"""A live teacher against a real server: answers once paid for are never asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from core.config.teacher import PromptsConfig, RulesConfig, TeacherConfig
from core.errors import BudgetSpent, TeacherError, TeacherRefused, UserError
from core.progress import Silent
from core.prompts import TEXT_SLOT, load_prompts
from core.records import Example
from core.rulebook import load_rulebook
from core.store.objects import Store
from core.teacher.base import Answered
from core.teacher.journal import Journal
from core.teacher.labels import LabelNames
from core.teacher.live.client import api_key
from core.teacher.live.teacher import LiveTeacher
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import invented, invented_label, write_texts
from tests.servers.teacher_orders import FaultKind

REPO = Path(__file__).resolve().parents[4]
TEXTS = {f"t{i:02}": f"Text number {i}: shall we meet at the harbour, or at the market?" for i in range(40)}
PROMPTS = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
RULES = load_rulebook(RulesConfig(dir=str(REPO / "rules/quickstart"))).text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherServer]:
    """One server for the module; each test puts it back in order."""
    user = PROMPTS.teacher_messages(TEXT_SLOT, RULES)[-1].content
    before, _, after = user.partition(TEXT_SLOT)
    texts = write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl", TEXTS, None)
    with endpoint.serve(texts, frames=[(before, after)]) as server:
        yield server


@pytest.fixture
def server(running: TeacherServer, monkeypatch: pytest.MonkeyPatch) -> TeacherServer:
    monkeypatch.setenv("TEST_TEACHER_KEY", "key")
    running.recover()
    running.reset_counts()
    return running


@pytest.fixture
def live(server: TeacherServer, tmp_path: Path) -> Callable[..., LiveTeacher]:
    """Opens teachers on one root."""

    def opened(run: str = "r", **config: object) -> LiveTeacher:
        values = {
            "kind": "openai",
            "base_url": server.base_url,
            "api_key_env": "TEST_TEACHER_KEY",
            "model": "gpt-4o-mini",
            "attempts": 1,
            "max_tokens": 200,
            "prices": str(REPO / "configs/prices.yaml"),
            "limits": {"concurrency": 8, "tries": 4},
        }
        teacher = TeacherConfig.model_validate({**values, **config})
        store = Store.open(str(tmp_path / "root"))
        names = LabelNames.of({}, (), ())
        return LiveTeacher(teacher, PROMPTS, RULES, names, lambda: Journal.open(store, run))

    return opened


def examples(count: int = 40) -> list[Example]:
    return [Example(name, text, invented_label(text)) for name, text in list(TEXTS.items())[:count]]


def asked(teacher: LiveTeacher, rows: list[Example]) -> list[Answered]:
    return list(teacher.answers(rows, len(rows), Silent()))


def test_every_text_is_answered_in_the_order_of_the_rows(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    server.delay(0.02, tail="pareto", seed=1)
    teacher, rows = live(), examples()
    found = asked(teacher, rows)
    assert [a.example for a in found] == rows
    assert [a.answers[0].raw_output for a in found] == [invented(r.text) for r in rows]
    assert all(a.answers[0].parse_ok and a.answers[0].label == a.example.label for a in found)
    assert server.totals().answered == 40
    assert teacher.facts()["output_format"] == "json_schema"
    assert teacher.facts()["ledger"]["usd_now"] > 0


def test_what_was_answered_is_not_asked_again_by_any_run(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    first = asked(live(), examples(30))
    assert server.totals().received == 30
    assert asked(live("another"), examples(40))[:30] == first
    assert server.totals().received == 40, "ten new texts ask ten times"
    asked(live("another", attempts=2), examples(40))
    assert server.totals().received == 40, "all agreed: a second attempt is not needed"
    asked(live(attempts=2, keep=2), examples(40))
    assert server.totals().received == 80, "one more answer of each"


@pytest.mark.parametrize(
    "change", [{"model": "gpt-4o"}, {"max_tokens": 100}, {"extra_body": {"seed": 1}}], ids=str
)
def test_another_request_is_asked(
    server: TeacherServer, live: Callable[..., LiveTeacher], change: dict[str, object]
) -> None:
    asked(live(), examples(5))
    asked(live(**change), examples(5))
    assert server.totals().received == 10


@pytest.mark.parametrize(
    "kind",
    [
        "server_error",
        "bad_gateway",
        "unavailable",
        "rate_limited",
        "disconnect",
        "reset",
        "disconnect_billed",
        "disconnect_midway",
        "broken_body",
        "html_page",
        "empty_choices",
        "overloaded",
    ],
)
def test_a_failure_that_passes_loses_nothing(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind
) -> None:
    asked(live(), examples(1))
    server.fail(kind, first=4)
    found = asked(live(), examples(12))
    assert [a.answers[0].raw_output for a in found] == [invented(text) for text in list(TEXTS.values())[:12]]


@pytest.mark.parametrize("kind", ["drip", "blank_lines"])
def test_an_answer_that_comes_slowly_is_waited_for_up_to_the_total_timeout(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind
) -> None:
    asked(live(), examples(1))
    server.fail(kind, seconds=0.6)
    patient = live(limits={"total_timeout_s": 5, "read_timeout_s": 0.5})
    assert all(a.answers for a in asked(patient, examples(4)))
    hasty = live(limits={"total_timeout_s": 0.3, "tries": 1})
    with pytest.raises(TeacherError, match=r"2 of 6 texts .* got no answer: .* no whole reply within 0\.3 s"):
        asked(hasty, examples(6))


def test_silence_ends_at_the_read_timeout(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    server.delay(3.0)
    with pytest.raises(TeacherError, match=r"1 of 2 texts .* got no answer: .*Timeout"):
        asked(live(limits={"read_timeout_s": 0.3, "tries": 1}), examples(2))


@pytest.mark.parametrize(
    ("kind", "parsed", "finish"),
    [
        ("length", False, "length"),
        ("broken_json", False, "stop"),
        ("content_filter", False, "content_filter"),
        ("empty_content", False, "stop"),
        ("schema_ignored", True, "stop"),
    ],
)
def test_a_poor_answer_is_kept_with_its_finish_reason_and_paid_for_once(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind, parsed: bool, finish: str
) -> None:
    asked(live(), examples(1))
    server.fail(kind, ids=["t02"])
    found = asked(live(), examples(4))[2].answers
    assert [(a.parse_ok, a.finish_reason) for a in found] == [(parsed, finish)]
    received = server.totals().received
    assert asked(live(), examples(4))[2].answers == found
    assert server.totals().received == received


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date", "none"])
def test_a_limit_is_kept_in_each_form_of_retry_after(
    server: TeacherServer, live: Callable[..., LiveTeacher], form: Literal["seconds", "none"]
) -> None:
    asked(live(), examples(1))
    server.limit(600, burst_s=0.5, retry_after=form)
    assert all(a.answers for a in asked(live(limits={"concurrency": 8, "tries": 20}), examples(20)))
    totals = server.totals()
    assert totals.answered == 20
    assert totals.received <= 32, "after the first refusals it waits until it may come again"


def test_a_limit_that_nobody_tells_is_borne(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    server.limit(600, burst_s=0.5, hidden=True)
    assert all(a.answers for a in asked(live(limits={"concurrency": 8, "tries": 20}), examples(20)))


def test_a_server_that_queues_without_a_word_loses_nothing(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    server.delay(0.05)
    server.queue(2)
    assert all(a.answers for a in asked(live(limits={"concurrency": 32}), examples()))
    assert server.totals().answered == 40


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unauthorized", "check the key in TEST_TEACHER_KEY"),
        ("no_balance", "check the account's balance"),
        ("forbidden", "check the account's balance and what it may use"),
        ("no_quota", "check the account's balance"),
        ("unknown_model", "check teacher.model"),
    ],
)
def test_a_refusal_stops_within_twenty_requests_and_the_same_command_goes_on(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind, words: str
) -> None:
    asked(live(), examples(5))
    server.fail(kind)
    server.reset_counts()
    with pytest.raises(TeacherRefused, match=words):
        asked(live(), examples())
    assert server.totals().received <= 20
    server.recover()
    server.reset_counts()
    assert len(asked(live(), examples())) == 40
    assert server.totals().received == 35


@pytest.mark.parametrize(
    ("kind", "settled"),
    [("no_schema", "json_object"), ("schema_unavailable", "json_object"), ("no_response_format", "plain")],
)
def test_the_first_request_settles_the_output_format_for_all(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind, settled: str
) -> None:
    server.fail(kind)
    teacher = live()
    assert all(a.answers[0].parse_ok for a in asked(teacher, examples(6)))
    assert teacher.facts()["output_format"] == settled
    refused = server.totals().received - 6
    assert refused == (1 if settled == "json_object" else 2)
    asked(live(), examples(8))
    assert server.totals().received == 8 + refused, "it is written down"


def test_a_text_that_the_server_will_not_read_is_missing_and_the_others_are_not(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.fail("prompt_filtered", ids=["t03"])
    teacher = live()
    found = asked(teacher, examples(6))
    assert [a.example.id for a in found if not a.answers] == ["t03"]
    assert sum(teacher.facts()["ledger"]["given_up"].values()) == 1


def test_a_text_that_failed_in_all_tries_is_an_error_until_the_config_allows_it(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.fail("server_error", ids=["t03"])
    limits = {"tries": 1}
    with pytest.raises(TeacherError, match=r"1 of 6 texts .*HTTP 500.*set teacher\.max_missing to 1 or more"):
        asked(live(limits=limits), examples(6))
    found = asked(live(limits=limits, max_missing=1), examples(6))
    assert [a.example.id for a in found if not a.answers] == ["t03"]
    server.recover()
    before = server.totals().received
    assert all(a.answers for a in asked(live(limits=limits), examples(6)))
    assert server.totals().received == before + 1, "the same command asks only what is missing"


def test_max_missing_counts_texts_that_the_server_will_not_read_too(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.fail("prompt_filtered", ids=["t03", "t05"])
    with pytest.raises(TeacherError, match=r"2 of 8 texts of train got no answer"):
        asked(live(max_missing=1), examples(8))
    assert sum(not a.answers for a in asked(live(max_missing=2), examples(8))) == 2


def test_where_no_text_is_read_it_is_the_request_and_the_run_stops(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.fail("too_long")
    server.reset_counts()
    with pytest.raises(TeacherRefused, match=r"will not read any text \(HTTP 400.*teacher\.max_tokens"):
        asked(live(), examples())
    assert server.totals().received <= 20 + 8


def test_a_first_answer_is_not_asked_again_by_a_run_that_died_right_after_it(
    server: TeacherServer, live: Callable[..., LiveTeacher], tmp_path: Path
) -> None:
    asked(live(), examples(1))
    for file in (tmp_path / "root/answers/formats").iterdir():
        file.unlink()
    assert len(asked(live(), examples(1))) == 1
    assert server.totals().received == 1


def test_the_budget_stops_the_run_and_counts_what_it_spent_before(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    rows = examples()
    with pytest.raises(BudgetSpent, match=r"raise teacher.budget.tokens and run the same command again"):
        asked(live(budget={"tokens": 12_000}), rows)
    totals = server.totals()
    assert 0 < totals.answered < 40
    assert totals.prompt_tokens + totals.completion_tokens <= 12_000 + 8 * 1_000
    with pytest.raises(BudgetSpent):
        asked(live(budget={"tokens": 12_000}), rows)
    assert server.totals().answered <= totals.answered + 1
    assert len(asked(live(), rows)) == 40
    assert server.totals().answered == 40


def test_an_endpoint_that_does_not_work_says_so_at_the_first_request(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    server.fail("html_page")
    with pytest.raises(TeacherError, match="did not answer the first request"):
        asked(live(limits={"tries": 1}), examples(5))
    assert server.totals().received == 1


def test_a_key_that_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = TeacherConfig(kind="openai", api_key_env="NO_SUCH_KEY")
    with pytest.raises(UserError, match=r"NO_SUCH_KEY is not set; export it, or write NO_SUCH_KEY=... into"):
        api_key(config)
    (tmp_path / ".env").write_text("NO_SUCH_KEY=from-file\n")
    assert api_key(config) == "from-file"
    monkeypatch.setenv("NO_SUCH_KEY", "exported")
    assert api_key(config) == "exported"


def test_a_request_is_what_the_config_says(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    asked(live(temperature=None, token_limit="max_completion_tokens", extra_body={"top_k": 5}), examples(1))
    first, last = server.seen()[-2:]
    assert (first.body["temperature"], first.body["max_tokens"]) == (0.0, 200)
    assert "temperature" not in last.body
    assert "max_tokens" not in last.body
    assert (last.body["max_completion_tokens"], last.body["top_k"]) == (200, 5)
    assert "authorization" in {name.lower() for name in first.headers}


def test_an_endpoint_without_a_key_needs_no_variable(
    server: TeacherServer, live: Callable[..., LiveTeacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_TEACHER_KEY")
    assert all(a.answers for a in asked(live(api_key_env=None), examples(2)))


def test_thinking_and_usage_are_kept_with_each_answer(
    server: TeacherServer, live: Callable[..., LiveTeacher], tmp_path: Path
) -> None:
    user = PROMPTS.teacher_messages(TEXT_SLOT, RULES)[-1].content
    before, _, after = user.partition(TEXT_SLOT)
    with endpoint.serve(frames=[(before, after)], reasoning_content=True) as thinking:
        first = asked(live(base_url=thinking.base_url, attempts=2, keep=2), examples(2))[1]
    assert [(a.sample, a.temperature) for a in first.answers] == [(0, 0.0), (1, 0.7)]
    for answer in first.answers:
        assert answer.reasoning_content
        assert answer.finish_reason == "stop"
        assert answer.prompt_tokens is not None
        assert answer.prompt_tokens > (answer.cached_tokens or 0) > 0
        assert answer.completion_tokens
        assert answer.latency_s is not None


def test_a_change_asks_again_exactly_what_it_touches(
    server: TeacherServer, live: Callable[..., LiveTeacher], tmp_path: Path
) -> None:
    both = {"attempts": 2, "keep": 2}
    rows = examples(6)

    def newly_asked(rows: list[Example], **config: object) -> int:
        before = server.totals().received
        asked(live(**{**both, **config}), rows)
        return server.totals().received - before

    assert newly_asked(rows) == 12
    assert newly_asked(rows) == 0
    assert newly_asked(list(reversed(rows))) == 0, "the order of rows is no part of a request"
    changed = Example(rows[2].id, rows[2].text + " Or not?", rows[2].label)
    assert newly_asked([*rows[:2], changed, *rows[3:]]) == 2, "one text, its two attempts"
    renamed = [Example("other", rows[0].text, rows[0].label), *rows[1:]]
    assert newly_asked(renamed) == 0, "an id is no part of a request"
    assert newly_asked(rows, temperature=0.9) == 6, "the first attempt is greedy at any temperature"
    assert newly_asked(rows, limits={"concurrency": 2}, api_key_env="TEST_TEACHER_KEY") == 0
    assert newly_asked(rows, base_url=server.base_url + "/") == 0, "another spelling of the endpoint"
    assert newly_asked(rows, max_tokens=199) == 12
    assert newly_asked(rows, attempts=3, keep=3) == 6, "one more attempt of each"
