"""An output format that an endpoint rejects, in whatever words, is replaced by a simpler one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.errors import TeacherError, TeacherRefused
from core.teacher.live import LiveTeacher
from tests.core.teacher.live.textbook import asked, examples
from tests.servers.teacher import TeacherServer

Live = Callable[..., LiveTeacher]
WORDS = [
    "grammar error: unexpected token at position 14",
    "enum values must be strings",
    "No endpoints found that can handle the requested parameters.",
    "this feature is not supported by this model",
    "",
]


def formats_seen(server: TeacherServer) -> list[str]:
    found = [seen.body.get("response_format") or {"type": "plain"} for seen in server.seen()]
    return [str(form["type"]) for form in found if isinstance(form, dict)]


@pytest.mark.parametrize("status", [400, 404, 422, 500, 501])
@pytest.mark.parametrize(
    ("formats", "settled"), [(("json_schema",), "json_object"), (("json_schema", "json_object"), "plain")]
)
def test_rejected_format_is_replaced_whatever_the_message(
    server: TeacherServer, live: Live, status: int, formats: tuple[str, ...], settled: str
) -> None:
    words = WORDS[status % len(WORDS)]
    server.fail("format_rejected", status=status, formats=formats, content=words)
    teacher = live()
    assert all(row.answers[0].parse_ok for row in asked(teacher, examples(6)))
    assert teacher.facts().output_format == settled
    assert server.totals().answered == 6, "no text is paid for twice"
    again = 2 if status == 500 else 1
    assert server.totals().received == 6 + again * len(formats)
    before = server.totals().received
    asked(live(run="later"), examples(8))
    assert server.totals().received == before + 2, "it is settled"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, None),
        (402, None),
        (403, None),
        (429, None),
        (429, "insufficient_quota"),
        (400, "insufficient_quota"),
        (400, "invalid_api_key"),
        (500, "insufficient_quota"),
    ],
)
def test_failure_of_key_account_or_rate_does_not_change_the_format(
    server: TeacherServer, live: Live, status: int, code: str | None
) -> None:
    server.fail("format_rejected", status=status, code=code, content="json_schema is not supported")
    with pytest.raises(TeacherError):
        asked(live(limits={"tries": 1}), examples(6))
    assert set(formats_seen(server)[-server.totals().received :]) == {"json_schema"}
    assert server.totals().answered == 0


@pytest.mark.parametrize("status", [400, 404, 422, 500, 501])
def test_error_of_the_plain_request_is_reported(server: TeacherServer, live: Live, status: int) -> None:
    server.fail("format_rejected", status=status, content="the flux is low", formats=("json_schema",))
    server.fail("format_rejected", status=status, content="the tide is out", formats=("json_object", "text"))
    with pytest.raises(TeacherError, match="the tide is out") as stopped:
        asked(live(limits={"tries": 1}), examples(20))
    assert isinstance(stopped.value, TeacherRefused) == (status in (400, 404, 422))
    assert server.totals().received <= 23
    server.recover()
    teacher = live()
    asked(teacher, examples(6))
    assert teacher.facts().output_format == "json_schema", "nothing was settled by an outage"


def test_outage_at_the_first_request_does_not_settle_a_simpler_format(
    server: TeacherServer, live: Live
) -> None:
    server.fail("server_error", first=3)
    teacher = live()
    assert all(row.answers for row in asked(teacher, examples(6)))
    assert teacher.facts().output_format == "json_schema"


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_router_may_need_a_simpler_format_for_some_texts(
    server: TeacherServer, live: Live, status: int
) -> None:
    asked(live(), examples(1))
    server.fail("format_rejected", status=status, rate=0.5, seed=3, content="no backend")
    teacher = live()
    found = asked(teacher, examples())
    assert all(row.answers[0].parse_ok for row in found)
    assert teacher.facts().output_format == "json_schema"
    assert server.totals().answered == 40
    assert server.totals().received > 40
    before = server.totals().received
    assert asked(live(run="later"), examples()) == found
    assert server.totals().received == before, "answers in the simpler format are reused"


def test_only_a_text_rejected_in_every_format_is_missing(server: TeacherServer, live: Live) -> None:
    asked(live(), examples(1))
    ids = [f"t{i:02}" for i in range(3, 15)]
    server.fail("format_rejected", ids=ids, formats=("json_schema", "json_object", "text"), content="odd")
    found = asked(live(), examples())
    assert [row.example.id for row in found if not row.answers] == ids
    assert server.totals().received <= 40 + 3 * len(ids)


def test_labels_in_the_schema_are_strings(server: TeacherServer, live: Live) -> None:
    asked(live(), examples(1))
    form = server.seen()[-1].body["response_format"]
    assert isinstance(form, dict)
    label = form["json_schema"]["schema"]["properties"]["label"]
    assert label == {"type": "string", "enum": ["0", "1"]}
