"""Any output is parsed as it was written or rejected, in linear time."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import ParseConfig
from core.records import LabelSet
from core.teacher.parsing import LabelNames, ParsedAnswer, clean, parse

PLAIN = ParseConfig()
NAMES = LabelNames(LabelSet.binary(("spam",), ("ham",)))
STOP = "\n\nPremise:"
WORD = ParseConfig(label_pattern=r"Answer:\s*(?P<label>\w+)", labels={"entailment": 1, "contradiction": 0})
WORDS = LabelNames(more=WORD.labels)

# What outputs are made of, and what could be taken for a label, an end or a beginning.
BITS = st.sampled_from(
    [
        "{", "}", '"', "\\", "'", "label", '"label"', '"reasoning"', ": ", "1", "0", ",", "[", "]",
        "<think>", "</think>", "<THINKING>", "</thinking>", "<label>", "</label>", "<label>0</label>",
        "<reason>", "</reason>", "<reasoning>", "</rationale>", "```", "```json\n", "\n", "\r\n", "\n\n",
        '{"label": 0, "reasoning": "x"}', '{"reasoning": "', "Answer: ", "Answer: contradiction",
        STOP, "\x00", "\u2028", "\ufeff", "\ud83d", "\udc00", "é", "\U0001f600",
    ]
)  # fmt: skip
TEXT = st.lists(st.one_of(BITS, st.text(max_size=20)), max_size=20).map("".join)
LABEL = st.sampled_from([0, 1])
THINK_TAG = re.compile(r"</?think(ing)?>", re.IGNORECASE)
REASON_TAG = re.compile(r"</?(reason|reasoning|rationale)>", re.IGNORECASE)
LABEL_TAG = re.compile(r"</?label>", re.IGNORECASE)
MANY = settings(max_examples=100)


def without(*tags: re.Pattern[str]) -> st.SearchStrategy[str]:
    return TEXT.filter(lambda text: not any(tag.search(text) for tag in tags))


def label_and_reasoning(found: ParsedAnswer) -> tuple[int | None, str | None]:
    assert found.ok, found.error
    return found.label, found.reasoning


@MANY
@given(raw=TEXT)
def test_parse_never_raises_and_returns_valid_utf_8(raw: str) -> None:
    for rules, names in ((PLAIN, NAMES), (WORD, WORDS)):
        found = parse(raw, rules, names)
        assert found.ok == (found.error is None) == (found.label is not None)
        assert found.ok == (found.reasoning is not None)
        json.dumps([found.reasoning, found.error], ensure_ascii=False).encode()


@MANY
@given(raw=TEXT)
def test_parsing_is_idempotent_through_json(raw: str) -> None:
    found = parse(raw, WORD, WORDS)
    assert parse(raw, WORD, WORDS) == found
    if found.ok:
        again = json.dumps({"reasoning": found.reasoning, "label": found.label})
        assert parse(again, WORD, WORDS) == ParsedAnswer(True, "json", found.label, found.reasoning, None)


@MANY
@given(
    reasoning=TEXT, label=LABEL, ascii=st.booleans(), label_first=st.booleans(), thought=without(THINK_TAG)
)
def test_json_round_trip_with_any_reasoning(
    reasoning: str, label: int, ascii: bool, label_first: bool, thought: str
) -> None:
    answer = (
        {"label": label, "reasoning": reasoning} if label_first else {"reasoning": reasoning, "label": label}
    )
    written = json.dumps(answer, ensure_ascii=ascii)
    for raw in (
        written,
        json.dumps(answer, ensure_ascii=ascii, indent=2),
        f"```json\n{written}\n```",
        f"```\n\n {written}```",
        f"\n {written}\n",
        f"Here it is:\n```json\n{written}\n```\nThat is {{all}}.",
        f"[{written}]",
        f"<think>{thought}</think>\n{written}",
        f"<think>{thought}</think>So: {written} I hope so.",
    ):
        assert label_and_reasoning(parse(raw, PLAIN, NAMES)) == (label, clean(reasoning).strip())


@MANY
@given(reasoning=without(THINK_TAG), label=LABEL)
def test_think_block_round_trip_with_any_reasoning(reasoning: str, label: int) -> None:
    for raw in (
        f"<think>{reasoning}</think>\n<label>{label}</label>",
        f"<Thinking>{reasoning}</Thinking><LABEL> {label}\n</LABEL>",
        f"{reasoning}</think><label>{label}</label>",
    ):
        assert label_and_reasoning(parse(raw, PLAIN, NAMES)) == (label, clean(reasoning).strip())


@MANY
@given(reasoning=without(THINK_TAG, REASON_TAG), label=LABEL, thought=without(THINK_TAG))
def test_reason_tag_round_trip_with_any_reasoning(reasoning: str, label: int, thought: str) -> None:
    for raw in (
        f"<label>{label}</label>\n<reason>{reasoning}</reason>",
        f"<reasoning>{reasoning}</reasoning> <label>{label}</label>",
        f"<think>{thought}</think><rationale>{reasoning}</rationale><label>{label}</label>",
    ):
        assert label_and_reasoning(parse(raw, PLAIN, NAMES)) == (label, clean(reasoning).strip())


@MANY
@given(reasoning=without(THINK_TAG, REASON_TAG, LABEL_TAG), label=LABEL)
def test_text_around_a_label_tag_is_the_reasoning_unless_it_has_json(reasoning: str, label: int) -> None:
    found = parse(f"<label>{label}</label> {reasoning}", PLAIN, NAMES)
    if found.source == "label_tag":
        assert label_and_reasoning(found) == (label, clean(reasoning).strip())
    else:
        assert '"' in reasoning


@MANY
@given(
    reasoning=without(THINK_TAG, REASON_TAG, LABEL_TAG).filter(lambda t: "{" not in t and "Answer:" not in t),
    word=st.sampled_from(["entailment", "Contradiction", "ENTAILMENT"]),
)
def test_pattern_takes_the_reasoning_before_or_after_the_label(reasoning: str, word: str) -> None:
    reasons = "a " + clean(reasoning).strip()
    label = WORD.labels[word.lower()]
    for raw in (f"{reasons}\nAnswer: {word}", f'Answer: {word}.\n"{reasons}', f"Answer: {word} - {reasons}"):
        label_read, read = label_and_reasoning(parse(raw, WORD, WORDS))
        assert (label_read, str(read).removeprefix('"')) == (label, reasons.strip())


@MANY
@given(words=st.lists(st.sampled_from(["entailment", "contradiction", "neutral"]), min_size=1, max_size=6))
def test_label_match_selects_first_or_last_and_unknown_words_fail(words: list[str]) -> None:
    raw = "\n".join(f"why {n}\nAnswer: {word}" for n, word in enumerate(words))
    for match, word in (("first", words[0]), ("last", words[-1])):
        found = parse(raw, WORD.model_copy(update={"label_match": match}), WORDS)
        assert found.label == WORD.labels.get(word)
        assert found.error == (None if found.ok else "unknown_label: neutral")


@MANY
@given(answer=TEXT, more=TEXT)
def test_text_after_a_stop_string_is_ignored(answer: str, more: str) -> None:
    rules = WORD.model_copy(update={"stop": (STOP, "\x00")})
    raw = f"{answer}\x00{more}"
    cut = re.split(f"{STOP}|\x00", raw)[0]
    assert parse(raw, rules, WORDS) == parse(cut, WORD, WORDS)


@MANY
@given(
    names=st.dictionaries(st.text("abcdefgh ", min_size=1).map(str.strip).filter(bool), LABEL, min_size=1),
    around=st.sampled_from(["{}", "**{}**", "'{}'.", " {}\n", '"{}"', "({})"]),
    upper=st.booleans(),
)
def test_label_names_match_in_any_case_and_between_marks(
    names: dict[str, int], around: str, upper: bool
) -> None:
    known = LabelNames(more=names)
    for name, label in names.items():
        word = around.format(name.upper() if upper else name)
        assert parse(f"<label>{word}</label> a", PLAIN, known).label == label
        assert parse(json.dumps({"label": word, "reasoning": "a"}), PLAIN, known).label == label


SIZE = 100_000
HOSTILE = [
    "[", "{", '{"', '{"a":', '{"label":', '{"label": "', '{"reasoning":1}', "<think>", "</think>", "<label>",
    "<label>1", "<label>1</label>", "<reason></reason>", "<think><reason>", "```", "``` ", "```\n", "`` ",
    "\\", '\\"', "9", " ", "\n", "{ ", '"', "Answer: ", "Answer: 1 ", "- ", "*", STOP, "\ud83d",
]  # fmt: skip


@pytest.mark.parametrize(
    "lead", ["", "x", "```", "```json\n", '{"label": 1, "reasoning": "', "<label>", "Answer: 1"]
)
def test_outputs_of_100_kb_are_parsed_in_linear_time(lead: str) -> None:
    """It takes milliseconds; the limit of ten seconds is for a busy machine, quadratic time takes minutes."""
    rules = WORD.model_copy(update={"stop": (STOP + "!",)})
    for bit in HOSTILE:
        raw = lead + bit * (SIZE // len(bit)) + "x"
        begin = time.process_time()
        parse(raw, rules, WORDS)
        assert time.process_time() - begin < 10, bit
