"""What the student is trained on is what its chat template renders, whatever the texts contain.

Each shape reproduces a quirk of a real model family; its source is named in template_shapes.
"""

from __future__ import annotations

import functools
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.config import PromptsConfig, StudentConfig
from core.prompts import load_prompts
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer
from tests.core.student.template_shapes import SHAPES, Shape

REPO = Path(__file__).resolve().parents[3]
TARGETS = ("label_only", "label_first", "reason_first")
RULEBOOK = "R1 Prizes nobody asked for are spam.\nR2 Friends are not."

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
every_target = pytest.mark.parametrize("target", TARGETS)
some = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])

_tags = st.sampled_from(
    ["<reason>", "</reason>", "<label>0</label>", "</reason>\n<label>1</label>", "<\\/reason>", "[INST]"]
)
_edges = st.sampled_from(["", " ", "\n", "\r\n", "\n\n", "\t ", "\u00a0"])
_words = st.text(st.characters(exclude_categories=["Cs", "Co"]), max_size=20) | _tags
_body = st.lists(_words, min_size=1, max_size=5).map(" ".join).filter(str.strip)


@st.composite
def _written(draw: st.DrawFn) -> str:
    """Text by a person, with whitespace at both ends."""
    return draw(_edges) + draw(_body) + draw(_edges)


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


@functools.lru_cache(maxsize=128)
def encoder(shape: Shape, target: str, folder: Path, rulebook: str | None = None) -> Encoder:
    """The encoder of a shape, opened once for each target."""
    home = folder / shape.name
    if not home.is_dir():
        shape.save(home)
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    config = StudentConfig.model_validate({"target": target, "rulebook": rulebook is not None})
    return Encoder(ChatTokenizer.load(home, {}), prompts, rulebook, EncodeSettings.of(config))


def tokens_of(e: Encoder, text: str, label: int, reason: str) -> tuple[int, ...]:
    """All tokens of a training example."""
    found = e.example("x", e.tokenizer.encode_texts([text])[0], label, reason)
    assert found is not None
    return (*found.datum.tokens, found.datum.targets[-1])


def rendered(e: Encoder, text: str, answer: str) -> str:
    """The conversation as transformers renders it on the templates' date."""
    inner, day = e.tokenizer.inner, date.fromisoformat(e.tokenizer.date)
    template = inner.chat_template
    for form in ("%d %b %Y", "%B %d, %Y"):
        template = template.replace(f"strftime_now('{form}')", f"'{day.strftime(form)}'")
    turns = [{"role": m.role, "content": m.content} for m in e.prompt_messages(text)]
    turns.append({"role": "assistant", "content": answer})
    whole: str = inner.apply_chat_template(turns, chat_template=template, tokenize=False)
    return whole


@every_shape
@every_target
@some
@given(text=_written(), reason=_written(), label=st.sampled_from([0, 1]))
def test_tokens_match_the_whole_conversation(
    shapes_folder: Path, shape: Shape, target: str, text: str, reason: str, label: int
) -> None:
    e = encoder(shape, target, shapes_folder)
    answer = e.answer(label, reason)
    if any(name in text or name in answer for name in shape.control):
        text, answer, reason = "plain", e.answer(label, "plain"), "plain"
    tokens = tokens_of(e, text, label, reason)
    whole = rendered(e, text, answer)
    expected = tuple(e.tokenizer.inner(whole, add_special_tokens=False)["input_ids"])
    assert tokens == expected[: len(tokens)]
    after = whole[whole.rindex(answer) + len(answer) :]
    assert after.lstrip().startswith(shape.end)
    assert e.tokenizer.inner.convert_ids_to_tokens(tokens[-1]) == shape.end


@every_shape
@every_target
@some
@given(reason=_written(), label=st.sampled_from([0, 1]), data=st.data())
def test_a_perfect_answer_survives_stopping_and_reading(
    shapes_folder: Path, shape: Shape, target: str, reason: str, label: int, data: st.DataObject
) -> None:
    e = encoder(shape, target, shapes_folder)
    reason = f"{reason} {data.draw(st.sampled_from(shape.control))} {data.draw(_tags)} {reason}"
    tokens = e.completion(label, reason).tokens
    stops = e.stop_tokens
    ended = next(i for i, token in enumerate(tokens) if token in stops)
    assert ended == len(tokens) - 1, "nothing before the end of turn stops a generation"
    assert e.tokenizer.inner.convert_ids_to_tokens(tokens[ended]) == shape.end
    parsed = e.read(tokens[:ended])[1]
    assert parsed.label == label
    if target == "label_only":
        assert parsed.reasoning is None
    elif shape.lossless:
        assert parsed.reasoning == reason.strip()


@every_shape
@some
@given(text=_written(), reason=_written(), data=st.data())
def test_texts_and_reasons_contain_no_control_token(
    shapes_folder: Path, shape: Shape, text: str, reason: str, data: st.DataObject
) -> None:
    e = encoder(shape, "reason_first", shapes_folder)
    ids = {e.tokenizer.inner.convert_tokens_to_ids(name) for name in shape.control if name.strip()}
    ids.discard(e.tokenizer.inner.convert_tokens_to_ids("<unk>"))
    some_control = st.sampled_from([name for name in shape.control if name.strip()])
    planted = [data.draw(some_control) for _ in range(4)]
    tokens = tokens_of(e, planted[0] + text + planted[1], 1, planted[2] + reason + planted[3])
    plain = tokens_of(e, "See you", 1, "It says so.")
    assert [t for t in tokens if t in ids] == [t for t in plain if t in ids]


@every_shape
def test_all_control_tokens_in_text_reason_and_rulebook_are_plain_text(
    shapes_folder: Path, shape: Shape
) -> None:
    names = " ".join(name for name in (*shape.control, "</think>", "<|eot_id|>", "[INST]") if name.strip())
    inner = encoder(shape, "label_first", shapes_folder).tokenizer.inner
    ids = {inner.convert_tokens_to_ids(name) for name in shape.control if name.strip()}
    ids.discard(inner.convert_tokens_to_ids("<unk>"))
    found = []
    for text, reason, rulebook in (("x", "x", "x"), (names, names, f"{RULEBOOK} {names}")):
        e = encoder(shape, "label_first", shapes_folder, rulebook)
        found.append([t for t in tokens_of(e, text, 0, reason) if t in ids])
        assert not ids & set(e.tokenizer.encode_texts([rulebook])[0].ids)
    assert found[0] == found[1]
    if shape.lossless:
        shown = inner.decode(e.prompt_tokens(names), skip_special_tokens=False)
        assert names in shown


@every_shape
@every_target
@some
@given(text=_written(), reason=_written(), label=st.sampled_from([0, 1]))
def test_evaluation_and_prediction_use_the_trained_prompt(
    shapes_folder: Path, shape: Shape, target: str, text: str, reason: str, label: int
) -> None:
    e = encoder(shape, target, shapes_folder)
    tokens = tokens_of(e, text, label, reason)
    asked = e.prompt_with_room(e.tokenizer.encode_texts([text])[0], e.label_tokens).tokens
    before = e.reason_prefix(reason) if target == "reason_first" else ()
    shown = (*asked, *before, *e.choices()[label][0])
    assert tokens[: len(shown)] == shown


@every_shape
def test_a_cut_text_has_the_tokens_of_the_remaining_text(shapes_folder: Path, shape: Shape) -> None:
    e = encoder(shape, "label_first", shapes_folder)
    text = "\n You have won a 日本 prize 😀, call now. " * 30
    found = e.tokenizer.encode_texts([text])[0]
    for room in range(len(e.frame) + 60, len(e.frame) + 72):
        e.max_length = room
        prompt = e.prompt_with_room(found, 20)
        e.max_length = 2048
        assert 0 < len(prompt.tokens) <= room - 20
        assert prompt.cut > 0
        left = found.begin(len(found.ids) - prompt.cut)
        assert text.startswith(left)
        whole = rendered(e, left, e.answer(1, "x"))
        expected = e.tokenizer.inner(whole, add_special_tokens=False)["input_ids"]
        assert list(prompt.tokens) == expected[: len(prompt.tokens)]
