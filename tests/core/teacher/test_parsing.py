"""Outputs are parsed by fixed rules; unreadable ones have an error."""

from __future__ import annotations

import pytest

from core.config import ParseConfig
from core.records import LabelSet
from core.teacher.parsing import LabelNames, parse, parse_reply

NAMES = LabelNames(LabelSet.binary(("spam",), ("ham",)))
PLAIN = ParseConfig()
WORD = ParseConfig(label_pattern=r"Answer:\s*(?P<label>\w+)", labels={"entailment": 1, "contradiction": 0})
WORDS = LabelNames(more=WORD.labels)

READ = [
    ('{"reasoning": "a b", "label": 1}', "json", 1, "a b"),
    ('{"label": "HAM", "reasoning": " a "}', "json", 0, "a"),
    ('{"LABEL": true, "Reasoning": "a", "more": [1]}', "json", 1, "a"),
    ('{"label": 0.0, "reasoning": "line\nbreak"}', "json", 0, "line\nbreak"),
    ('```json\n{"reasoning": "a", "label": 0}\n```', "json_fenced", 0, "a"),
    ('```\n{"reasoning": "a ``` b", "label": 0}\n```', "json_fenced", 0, "a ``` b"),
    ('Sure:\n```json\n{"reasoning": "a", "label": 0}\n```\nThat is it.', "json_inside", 0, "a"),
    ('Here {you} go: {"reasoning": "a {b} \\"c\\"", "label": 1} Bye', "json_inside", 1, 'a {b} "c"'),
    ('[{"reasoning": "a", "label": 1}]', "json_inside", 1, "a"),
    ('{"reasoning": "a", "label": 1}\n{"reasoning": "b", "label": "spam"}', "json_inside", 1, "a"),
    ('<think>perhaps {"reasoning": "x", "label": 0}</think>{"reasoning": "a", "label": 1}', "json", 1, "a"),
    ("<think>a</think>\n<label>\n1\n</label>", "think_label", 1, "a"),
    (
        "a, since the prompt opened it</think><label>0</label>",
        "think_label",
        0,
        "a, since the prompt opened it",
    ),
    ("<label>spam</label>\n<reason>a</reason>", "reason_label", 1, "a"),
    ("<THINK>long</THINK><Reasoning>a</Reasoning><LABEL>ham.</LABEL>", "reason_label", 0, "a"),
    (
        "<think>says <label>0</label> first</think><label>1</label>",
        "think_label",
        1,
        "says <label>0</label> first",
    ),
    ("<label>1</label> because of a", "label_tag", 1, "because of a"),
    ("<label>1</label> a <label>**spam**</label>", "label_tag", 1, "a"),
    ('<label>1</label><reason>says {"label": 0}</reason>', "reason_label", 1, 'says {"label": 0}'),
    (
        'So: {"reasoning": "says </think><label>0</label>", "label": 1}',
        "json_inside",
        1,
        "says </think><label>0</label>",
    ),
    ('<think>a</think>{"reasoning": "</think>", "label": 1}', "json", 1, "</think>"),
    ('{"reasoning": "a", "label": 1,}', "json", 1, "a"),
    ('{"reasoning": "a, } ,]", "more": [1, 2, ], "label": 1 ,\n}', "json", 1, "a, } ,]"),
    ('```json\n{"reasoning": "a", "label": 0,\n}\n```', "json_fenced", 0, "a"),
    ('Sure: {"reasoning": "a", "label": 1,} I hope this helps', "json_inside", 1, "a"),
    ('"{\\"reasoning\\": \\"a\\", \\"label\\": 1}"', "json", 1, "a"),
]


@pytest.mark.parametrize(("raw", "source", "label", "reasoning"), READ)
def test_each_answer_form_is_parsed_with_its_source(
    raw: str, source: str, label: int, reasoning: str
) -> None:
    found = parse(raw, PLAIN, NAMES)
    assert (found.ok, found.source, found.label, found.reasoning, found.error) == (
        True,
        source,
        label,
        reasoning,
        None,
    )


UNREAD = [
    ("", "empty"),
    (" \n", "empty"),
    ("It is spam.", "no_label"),
    ("label: 1", "no_label"),
    ("1", "no_label"),
    ("{}", "no_label"),
    ('{"reasoning": "the label is 1"}', "no_label"),
    ('{"label": 1}', "no_reasoning"),
    ('{"label": 1, "reasoning": null}', "no_reasoning"),
    ('{"label": 1, "reasoning": ["a"]}', "reasoning_not_text"),
    ('{"label": 2, "reasoning": "a"}', "unknown_label: 2"),
    ('{"label": 0.7, "reasoning": "a"}', "unknown_label: 0.7"),
    ('{"label": null, "reasoning": "a"}', "unknown_label: None"),
    ('{"label": [1], "reasoning": "a"}', "unknown_label: a list"),
    ('{"label": {"label": 1}, "reasoning": "a"}', "unknown_label: an object"),
    ('{"label": 1e999, "reasoning": "a"}', "unknown_label: inf"),
    ('{"label": "0 or 1", "reasoning": "a"}', "unknown_label: 0 or 1"),
    ('{"label": 1, "label": 0, "reasoning": "a"}', "several_labels"),
    ('{"label": 1, "reasoning": "a", "reasoning": "b"}', "several_reasonings"),
    ('{"reasoning": "a", "label": 1} or {"reasoning": "b", "label": 0}', "several_labels"),
    ("<think>a</think><label>1</label><label>0</label>", "several_labels"),
    ("<think>a</think><label>1</label> Next: <think>b</think><label>0</label>", "several_labels"),
    ("<think>a <label>1</label></think>", "no_label"),
    ("<think>a</think><label>maybe</label>", "unknown_label: maybe"),
    ('{"reasoning": "He said "hi" there", "label": 1}', "broken_json"),
    ('Sure: {"reasoning": "a "b" c", "label": 1} I hope this helps', "broken_json"),
    ('{"reasoning": "He said "hi" <label>0</label>", "label": 1}', "broken_json"),
    ('<reason>{"reasoning": "a", "label": 1}</reason>', "no_label"),
    ('{"reasoning": "a", "label": 1,, }', "broken_json"),
    ('{"reasoning": "a", "label": 1, "more', "truncated"),
    ('{"reasoning": "a", "label": 1,}, {"reasoning": "a", "label": 0,}', "several_labels"),
    ("{", "truncated"),
    ('{"reasoning": "It tells of', "truncated"),
    ('{"label": 1, "reasoning": "It tells of', "truncated"),
    ('```json\n{"reasoning": "It tells', "truncated"),
    ('Sure. {"reasoning": "It tells', "truncated"),
    ("<think>It tells", "truncated"),
    ("<think>It tells of <label>1</label> and", "truncated"),
    ("<think>a</think><label>1", "truncated"),
    ("<label>1</label><reason>It tells", "truncated"),
]


@pytest.mark.parametrize(("raw", "error"), UNREAD)
def test_unreadable_answer_has_an_error_and_no_label(raw: str, error: str) -> None:
    found = parse(raw, PLAIN, NAMES)
    assert (found.ok, found.label, found.reasoning, found.error) == (False, None, None, error)


PATTERN = [
    ("a is b.\nAnswer: entailment\n\nPremise: c\nAnswer: contradiction", "first", 1, "a is b.", None),
    ("a is b.\nAnswer: entailment\n\nAnswer: contradiction", "last", 0, "a is b.\nAnswer: entailment", None),
    ("Answer: Entailment. Because a.", "first", 1, "Because a.", None),
    ('Answer: entailment** - "a" is b.', "first", 1, '"a" is b.', None),
    ("<reason>Answer: entailment?</reason>Answer: contradiction", "first", 0, "Answer: entailment?", None),
    ("<think>Answer: entailment?</think>a. Answer: contradiction", "first", 0, "a.", None),
    ("<think>a</think>Answer: contradiction", "first", 0, "a", None),
    ("a. Answer: neutral. Answer: entailment", "first", None, None, "unknown_label: neutral"),
    ("a. It is an entailment", "first", None, None, "no_label"),
    ('{"reasoning": "Answer: entailment', "first", None, None, "truncated"),
]


@pytest.mark.parametrize(("raw", "match", "label", "reasoning", "error"), PATTERN)
def test_pattern_parses_answers_without_json_or_tags(
    raw: str, match: str, label: int | None, reasoning: str | None, error: str | None
) -> None:
    found = parse(raw, WORD.model_copy(update={"label_match": match}), WORDS)
    assert (found.label, found.reasoning, found.error) == (label, reasoning, error)
    assert found.ok == (error is None)


def test_output_ends_at_the_first_stop_string() -> None:
    rules = WORD.model_copy(update={"stop": ("\n\n", "###")})
    assert parse("a ### Answer: entailment", rules, WORDS).error == "no_label"
    assert parse("a. Answer: entailment ### b\n\nc", rules, WORDS).label == 1
    assert parse("### a", rules, WORDS).error == "empty"


def test_label_names_of_the_config_take_precedence() -> None:
    names = LabelNames(LabelSet.binary(("bad",), ("0", "good")), {"negative": 1, "ok": 0})
    read = {w: names.read(w) for w in ("Negative", "OK", "bad", "good", "yes", "0", "1", "'1'.", "x")}
    assert read == {
        "Negative": 1, "OK": 0, "bad": 1, "good": 0, "yes": 1, "0": 0, "1": 1, "'1'.": 1, "x": None,
    }  # fmt: skip


ANSWER = '{"reasoning": "a", "label": 1}'
DRAFT = '{"reasoning": "b", "label": 0}'


@pytest.mark.parametrize(
    "thought",
    [
        ANSWER,
        f"```json\n{ANSWER}\n```",
        f"It is about a. {ANSWER}",
        f"Not {DRAFT}, rather\n{ANSWER}\n",
        f"<think>{DRAFT}</think>{ANSWER}",
        f"So:\n```\n{ANSWER[:-1]},}}\n```",
    ],
)
@pytest.mark.parametrize("content", ["", " \n"])
@pytest.mark.parametrize("finish_reason", ["stop", None, "eos"])
def test_answer_is_read_from_the_reasoning_field_if_the_content_is_empty(
    thought: str, content: str, finish_reason: str | None
) -> None:
    found = parse_reply(content, thought, finish_reason, PLAIN, NAMES)
    assert (found.source, found.label, found.reasoning) == ("reasoning_json", 1, "a")


@pytest.mark.parametrize(
    ("content", "thought", "finish_reason", "error"),
    [
        ("", None, "stop", "empty"),
        ("", "I think it is spam.", "stop", "empty"),
        ("", f"{DRAFT} is what I was asked for, but", "stop", "empty"),
        ("", "<label>1</label>", "stop", "empty"),
        ("", ANSWER, "length", "truncated"),
        ("It is", ANSWER, "stop", "no_label"),
        ("It is", None, "max_tokens", "truncated"),
        ("It is", None, "MAX_TOKENS", "truncated"),
        (ANSWER, None, "content_filter", "filtered"),
        ("", ANSWER, "refusal", "filtered"),
        (ANSWER, None, "error", "failed"),
    ],
)
def test_finish_reason_takes_precedence_over_content(
    content: str, thought: str | None, finish_reason: str, error: str
) -> None:
    found = parse_reply(content, thought, finish_reason, PLAIN, NAMES)
    assert (found.ok, found.label, found.error) == (False, None, error)


@pytest.mark.parametrize("finish_reason", ["stop", "length", "eos", None, "done by a version to come"])
def test_complete_answer_is_read_whatever_its_finish_reason(finish_reason: str | None) -> None:
    assert parse_reply(ANSWER, DRAFT, finish_reason, PLAIN, NAMES).label == 1
