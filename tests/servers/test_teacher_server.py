"""The teacher's server replays, counts and bills, and its faults are what a real client sees."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import openai
import pytest

from core.config import PromptsConfig
from core.prompts import load_prompts
from tests.servers import teacher
from tests.servers.teacher_answers import invented, tokens, unknown_id, write_texts
from tests.servers.teacher_client import FRAME, PRIZE, SCHEMA, ask, ask_all, client, content, message
from tests.servers.teacher_orders import Prices

REPO = Path(__file__).resolve().parents[2]
TEXTS = {
    "prize": PRIZE,
    "longer": "You have won a prize\n\nAnswer in JSON. Or do not",
    "plain": "See you at eight",
}
RECORDED = [
    {"id": "prize", "sample": 1, "reasoning": "Second [R1].", "label": 0},
    {"id": "prize", "sample": 0, "raw_output": '{"reasoning": "First [R1].", "label": 1}'},
    {"id": "longer", "sample": 0, "raw_output": "The longer one\u2028", "finish_reason": "length"},
    {"id": "not among the texts", "sample": 0, "raw_output": "x"},
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in RECORDED)
    (folder / "answers.jsonl").write_text(lines, encoding="utf-8")
    return write_texts(folder / "texts.jsonl", TEXTS, folder / "answers.jsonl")


@pytest.fixture(scope="module")
def running(texts: Path) -> Iterator[teacher.TeacherServer]:
    prices = Prices(prompt=100.0, cached=10.0, completion=1000.0)
    with teacher.serve(texts, frames=[FRAME], prices=prices) as server:
        yield server


@pytest.fixture
def server(running: teacher.TeacherServer) -> teacher.TeacherServer:
    running.recover()
    running.reset_counts()
    return running


def test_a_recorded_answer_is_replayed_to_the_letter(server: teacher.TeacherServer) -> None:
    assert content(server) == RECORDED[1]["raw_output"]


def test_an_answer_of_fields_is_replayed_as_json(server: teacher.TeacherServer) -> None:
    assert json.loads(content(server, seed=1)) == {"reasoning": "Second [R1].", "label": 0}


def test_temperature_zero_repeats_itself(server: teacher.TeacherServer) -> None:
    assert content(server) == content(server) == RECORDED[1]["raw_output"]


def test_samples_follow_each_other_and_the_last_repeats(texts: Path) -> None:
    with teacher.serve(texts, frames=[FRAME]) as server:
        server.fail("disconnect_billed", first=1)
        with pytest.raises(openai.APIConnectionError):
            ask(server, "new", temperature=0.7)
        found = [content(server, "new", temperature=0.7) for _ in range(2)]
        assert found == [invented("new", 1), invented("new", 2)], "what never arrived is given again"
        assert [json.loads(content(server, temperature=0.7))["label"] for _ in range(3)] == [0, 0, 0]


def test_a_seed_is_the_number_of_the_attempt(server: teacher.TeacherServer) -> None:
    assert [content(server, "new", seed=n) for n in (2, 0)] == [invented("new", 2), invented("new", 0)]


def test_the_longest_text_between_the_frames_is_meant(server: teacher.TeacherServer) -> None:
    reply = ask(server, TEXTS["longer"])
    assert reply.choices[0].message.content == "The longer one\u2028"
    assert reply.choices[0].finish_reason == "length"


def test_a_hint_after_the_frame_changes_no_text(server: teacher.TeacherServer) -> None:
    hinted = message(TEXTS["plain"], (FRAME[0], FRAME[1] + "\n\nThe answer is 1."))
    ask(server, messages=hinted)
    assert list(server.counts().texts) == ["plain"]


def test_a_text_without_a_recorded_answer_has_an_invented_one(server: teacher.TeacherServer) -> None:
    assert content(server, TEXTS["plain"]) == invented(TEXTS["plain"])
    assert set(json.loads(content(server, "never seen"))) == {"reasoning", "label"}
    assert unknown_id("never seen") in server.counts().texts


def test_texts_are_found_without_frames(texts: Path) -> None:
    with teacher.serve(texts) as server:
        for frame in (FRAME, ("Say: <", ">"), ("", ""), ("See you\nText:\n", "\nWell?")):
            for text in TEXTS.values():
                ask(server, messages=message(text, frame))
        counts = server.counts().texts
        assert {id: c.received for id, c in counts.items()} == dict.fromkeys(TEXTS, 4)


def test_the_project_s_own_prompts_hide_no_text(texts: Path) -> None:
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/sms.yaml")))
    with teacher.serve(texts) as server:
        for gold in (None, 1):
            for text in TEXTS.values():
                asked = prompts.teacher_messages(text, "[R1] No prizes.\n[R2] No calls.", gold=gold)
                ask(server, messages=[asdict(m) for m in asked])
        assert {id: c.received for id, c in server.counts().texts.items()} == dict.fromkeys(TEXTS, 2)


def test_a_server_may_come_back_at_its_port() -> None:
    with teacher.serve() as first:
        ask(first)
    with teacher.serve(port=first.port) as second:
        ask(second)
        assert (second.base_url, second.totals().received) == (first.base_url, 1)


def test_usage_is_counted_in_four_bytes_and_a_repeated_beginning_is_cached(
    server: teacher.TeacherServer,
) -> None:
    long = "words " * 200
    first, second = (ask(server, long + end).usage for end in ("one", "two"))
    assert first is not None
    assert second is not None
    prompt = "\n".join(m["content"] for m in message(long + "one"))
    assert first.prompt_tokens == second.prompt_tokens == tokens(prompt)
    assert first.completion_tokens == tokens(invented(long + "one"))
    assert second.prompt_tokens_details is not None
    assert second.prompt_tokens_details.cached_tokens == 256
    totals = server.totals()
    assert totals.prompt_tokens == 2 * first.prompt_tokens
    fresh = totals.prompt_tokens - totals.cached_tokens
    money = (fresh * 100 + totals.cached_tokens * 10 + totals.completion_tokens * 1000) / 1e6
    assert totals.money == pytest.approx(money)


def test_reasoning_content_is_sent_where_told() -> None:
    with teacher.serve(reasoning_content=True) as server:
        reply = ask(server)
        assert (reply.choices[0].message.model_extra or {})["reasoning_content"].startswith("Let me see")
        assert reply.usage is not None
        assert reply.usage.completion_tokens > tokens(reply.choices[0].message.content or "")


def test_most_tokens_and_stop_strings_end_an_answer(server: teacher.TeacherServer) -> None:
    choice = ask(server, max_tokens=3).choices[0]
    assert (choice.message.content, choice.finish_reason) == ('{"reasoning"', "length")
    assert content(server, stop=["First"]) == '{"reasoning": "'


def test_keys_and_models_are_checked_where_given() -> None:
    with teacher.serve(api_key="right", models=["m"]) as server:
        with pytest.raises(openai.AuthenticationError):
            ask(server)

        async def right() -> tuple[list[str], BaseException]:
            async with client(server, key="right") as api:
                names = [m.id async for m in api.models.list()]
                await api.chat.completions.create(model="m", messages=message("x"))
                with pytest.raises(openai.NotFoundError) as caught:
                    await api.chat.completions.create(model="another", messages=message("x"))
                return names, caught.value

        assert asyncio.run(right())[0] == ["m"]


def test_every_text_is_counted(server: teacher.TeacherServer) -> None:
    server.fail("unavailable", first=1, ids=["plain"])
    before = time.time()
    ask_all(server, TEXTS["prize"], TEXTS["plain"])
    ask(server, TEXTS["plain"])
    counts = server.counts()
    plain = counts.texts["plain"]
    assert (plain.received, plain.answered, plain.billed, plain.failed) == (2, 1, 1, {"503": 1})
    assert counts.totals.statuses == {"200": 2, "503": 1}
    assert counts.totals.received == 3
    assert all(before <= at <= time.time() for at in server.arrivals())
    assert len(server.arrivals()) == 3


def test_what_is_in_flight_is_counted_while_it_is(server: teacher.TeacherServer) -> None:
    server.delay(0.5)
    found = ask_all(server, *(f"text {i}" for i in range(5)), timeout=0.2)
    assert all(isinstance(e, openai.APITimeoutError) for e in found)
    assert server.totals().in_flight == 5
    time.sleep(0.8)
    totals = server.totals()
    assert (totals.in_flight, totals.most_in_flight, totals.billed, totals.answered) == (0, 5, 5, 0)


def test_a_request_is_shown_as_it_came(server: teacher.TeacherServer) -> None:
    ask(server, temperature=0.3, response_format=SCHEMA)
    seen = server.seen()[-1]
    assert (seen.id, seen.body["temperature"], seen.body["response_format"]) == ("prize", 0.3, SCHEMA)
    assert seen.headers["Authorization"] == "Bearer any"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is not told of its parent's end")
def test_no_server_stays_behind_a_killed_test() -> None:
    program = (
        "import time; from tests.servers import teacher\n"
        "with teacher.serve() as server: print(server.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    exe = Path(f"/proc/{int(parent.stdout.readline())}/exe")
    assert exe.exists()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 10
    while exe.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not exe.exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"server ended:\n(.|\n)*FileNotFoundError"),
        teacher.serve(tmp_path / "none"),
    ):
        pass


def test_an_order_that_is_no_order_is_refused(server: teacher.TeacherServer) -> None:
    with pytest.raises(ValueError, match="Input should be"):
        server._ask("fault", '{"kind": "unheard of"}')
