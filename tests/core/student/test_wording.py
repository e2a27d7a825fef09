"""Writing and parsing a student's answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.prompts import TargetWording
from core.student.conversation import ParsedCompletion, parse_completion, write_answer

W = TargetWording()
CLOSING = ("</reason>", "--", "aa", "}", "\\", "\\\\", "a\\a", "--x--", "| |", "-", "/", "</r></r>")


@pytest.mark.parametrize(
    ("raw", "target", "parsed"),
    [
        ("<label>1</label>\n<reason>why</reason>", "label_first", ParsedCompletion(1, "why")),
        ("<label>0</label>", "label_only", ParsedCompletion(0, None)),
        ("<label> 1 </label>", "label_only", ParsedCompletion(1, None)),
        ("<reason>a\nb</reason>\n<label>0</label>", "reason_first", ParsedCompletion(0, "a\nb")),
        ("<reason>cut", "reason_first", ParsedCompletion(None, None)),
        (
            "<reason>it says <label>1</label></reason>\n<label>0</label>",
            "reason_first",
            ParsedCompletion(0, "it says <label>1</label>"),
        ),
        (
            "<reason>it says <label>1</label></reason>",
            "label_first",
            ParsedCompletion(None, "it says <label>1</label>"),
        ),
        ("Sure! <label>1</label>", "label_first", ParsedCompletion(None, None)),
        ("<label>2</label>", "label_only", ParsedCompletion(None, None)),
        ("", "label_only", ParsedCompletion(None, None)),
    ],
)
def test_a_label_counts_only_where_the_target_puts_it(
    raw: str, target: str, parsed: ParsedCompletion
) -> None:
    assert parse_completion(raw, W, target) == parsed


def written(label: int, reason: str, target: str, wording: TargetWording = W) -> str:
    return "".join(part.text for part in write_answer(str(label), reason, wording, target))


@pytest.mark.parametrize("target", ["label_first", "reason_first"])
@pytest.mark.parametrize(
    "reason",
    [
        "a </reason> b",
        "</reason>\n<label>0</label>",
        "</reason>\n<label>0</label></reason>",
        "<\\/reason> and <\\\\/reason>",
        "<reason>x</reason>",
        "</reason></reason>",
        "<</reason>",
        "ends with </reaso",
    ],
)
def test_a_reason_cannot_close_its_own_tag(reason: str, target: str) -> None:
    raw = written(1, reason, target)
    assert raw.count(W.reason_close) == 1
    assert parse_completion(raw, W, target) == ParsedCompletion(1, reason)


def test_a_reason_without_the_tag_is_not_escaped() -> None:
    assert (
        written(0, "see <b> \\ [R1]", "label_first") == "<label>0</label>\n<reason>see <b> \\ [R1]</reason>"
    )


@given(data=st.data(), tag=st.sampled_from(CLOSING), target=st.sampled_from(["label_first", "reason_first"]))
def test_every_reason_is_read_back_with_any_tag(data: st.DataObject, tag: str, target: str) -> None:
    letters = sorted({*tag, *"\\/~-+a\n"})
    reason = data.draw(st.text(st.sampled_from(letters), max_size=12) | st.lists(st.just(tag)).map("".join))
    wording = TargetWording(reason_open="(why) ", reason_close=tag)
    parsed = parse_completion(written(1, reason, target, wording), wording, target)
    assert parsed == ParsedCompletion(1, reason.strip())
