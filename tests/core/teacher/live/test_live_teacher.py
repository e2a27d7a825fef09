"""A live teacher against a real server: stored answers are never requested again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.completions.client import api_key
from core.config import TeacherConfig
from core.errors import UserError
from core.records import Example
from core.teacher.live import LiveTeacher
from tests.core.teacher.live.textbook import FRAME, asked, examples, ledger
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import invented


def test_texts_are_answered_in_row_order(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    server.delay(0.02, tail="pareto", seed=1)
    teacher, rows = live(), examples()
    found = asked(teacher, rows)
    assert [a.example for a in found] == rows
    assert [a.answers[0].raw_output for a in found] == [invented(r.text) for r in rows]
    assert all(a.answers[0].parse_ok and a.answers[0].label == a.example.label for a in found)
    assert server.totals().answered == 40
    assert teacher.facts().output_format == "json_schema"
    assert (ledger(teacher).usd_now or 0) > 0


def test_without_a_price_only_tokens_are_counted(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    teacher = live("night", prices=None)
    asked(teacher, examples(3))
    facts = ledger(teacher)
    assert (facts.run, facts.usd_now, facts.usd_of_the_run) == ("night", None, None)
    assert facts.prompt_tokens_of_the_run == server.totals().prompt_tokens > 0


def test_stored_answers_are_not_requested_by_any_run(
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


@pytest.mark.parametrize("change", [{"model": "gpt-4o"}, {"extra_body": {"seed": 1}}], ids=str)
def test_changed_request_is_sent(
    server: TeacherServer, live: Callable[..., LiveTeacher], change: dict[str, object]
) -> None:
    asked(live(), examples(5))
    asked(live(**change), examples(5))
    assert server.totals().received == 10


def test_first_answer_survives_a_crash_right_after_it(
    server: TeacherServer, live: Callable[..., LiveTeacher], tmp_path: Path
) -> None:
    asked(live(), examples(1))
    for file in (tmp_path / "root/answers/formats").iterdir():
        file.unlink()
    assert len(asked(live(), examples(1))) == 1
    assert server.totals().received == 1


def test_missing_key_is_reported_with_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = TeacherConfig(kind="openai", api_key_env="NO_SUCH_KEY")
    with pytest.raises(UserError, match=r"NO_SUCH_KEY is not set; export it, or write NO_SUCH_KEY=... into"):
        api_key(config.endpoint)
    (tmp_path / ".env").write_text("NO_SUCH_KEY=from-file\n")
    assert api_key(config.endpoint) == "from-file"
    monkeypatch.setenv("NO_SUCH_KEY", "exported")
    assert api_key(config.endpoint) == "exported"


def test_request_follows_the_config(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    asked(live(temperature=None, token_limit="max_completion_tokens", extra_body={"top_k": 5}), examples(1))
    first, last = server.seen()[-2:]
    assert (first.body["temperature"], first.body["max_tokens"]) == (0.0, 200)
    assert "temperature" not in last.body
    assert "max_tokens" not in last.body
    assert (last.body["max_completion_tokens"], last.body["top_k"]) == (200, 5)
    assert "authorization" in {name.lower() for name in first.headers}


def test_endpoint_without_a_key_needs_no_variable(
    server: TeacherServer, live: Callable[..., LiveTeacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_TEACHER_KEY")
    assert all(a.answers for a in asked(live(api_key_env=None), examples(2)))


def test_thinking_and_usage_are_kept_with_each_answer(
    server: TeacherServer, live: Callable[..., LiveTeacher], tmp_path: Path
) -> None:
    with endpoint.serve(frames=[FRAME], reasoning_content=True) as thinking:
        first = asked(live(base_url=thinking.base_url, attempts=2, keep=2), examples(2))[1]
    assert [(a.sample, a.temperature) for a in first.answers] == [(0, 0.0), (1, 0.7)]
    for answer in first.answers:
        assert answer.reasoning_content
        assert answer.finish_reason == "stop"
        assert answer.prompt_tokens is not None
        assert answer.prompt_tokens > (answer.cached_tokens or 0) > 0
        assert answer.completion_tokens
        assert answer.latency_s is not None


def test_config_change_requests_exactly_the_affected_texts(
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
    assert newly_asked(list(reversed(rows))) == 0, "the order of rows is not part of a request"
    changed = Example(rows[2].id, rows[2].text + " Or not?", rows[2].label)
    assert newly_asked([*rows[:2], changed, *rows[3:]]) == 2, "one text, its two attempts"
    renamed = [Example("other", rows[0].text, rows[0].label), *rows[1:]]
    assert newly_asked(renamed) == 0, "an id is not part of a request"
    assert newly_asked(rows, temperature=0.9) == 6, "the first attempt is greedy at any temperature"
    assert newly_asked(rows, limits={"concurrency": 2}, api_key_env="TEST_TEACHER_KEY") == 0
    assert newly_asked(rows, base_url=server.base_url + "/") == 0, "another spelling of the endpoint"
    assert newly_asked(rows, max_tokens=199) == 0, "no answer was truncated"
    assert newly_asked(rows, attempts=3, keep=3) == 6, "one more attempt of each"


def test_key_is_read_from_env_files_and_invalid_keys_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("A_KEY", raising=False)
    config = TeacherConfig(kind="openai", api_key_env="A_KEY")
    Path(".env").write_bytes(b"\xef\xbb\xbfA_KEY='k1'\r\n")
    assert api_key(config.endpoint) == "k1"
    Path(".env").write_bytes(b"A_KEY=\xff\n")
    with pytest.raises(UserError, match=r"\.env cannot be read .*export A_KEY"):
        api_key(config.endpoint)
    monkeypatch.setenv("A_KEY", " k2\n")
    assert api_key(config.endpoint) == "k2"
    for bad in ("se cret", "sé", "se\ncret"):
        monkeypatch.setenv("A_KEY", bad)
        with pytest.raises(UserError, match="A_KEY contains a space, a line break or a letter") as caught:
            api_key(config.endpoint)
        assert bad not in str(caught.value)


def test_equal_texts_are_requested_once(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    server.delay(0.05)
    rows = [Example(f"e{i}", f"Shall we meet at quay {i // 4}?", i % 2) for i in range(20)]
    assert all(a.answers for a in asked(live(), rows))
    assert server.totals().received == 5


def test_concurrent_runs_share_their_answers(
    server: TeacherServer, live: Callable[..., LiveTeacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.completions.completer._OTHERS_S", 0.05)
    asked(live(), examples(1))
    server.delay(0.3)
    teachers = [live(run, limits={"concurrency": 2}) for run in ("first", "second")]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda teacher: asked(teacher, examples()), teachers))
    assert all(a.answers for rows in found for a in rows)
    assert server.totals().answered <= 40 + 16, "what both had in flight when they met, of 80 alone"
