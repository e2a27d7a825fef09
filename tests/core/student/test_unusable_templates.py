"""Chat templates that would lose a correct answer are rejected before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from core.config import PromptsConfig, StudentConfig
from core.errors import ModelError, PromptError, UserError
from core.prompts import Prompts, TargetWording, load_prompts
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer
from tests.core.student.template_shapes import Shape, byte_level, sentencepiece

REPO = Path(__file__).resolve().parents[3]
GOOD = Shape(
    "good",
    "our own",
    byte_level,
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    end="<|end|>",
    special=("<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    eos="<|eos|>",
)


def prompts(wording: TargetWording | None = None, **templates: str) -> Prompts:
    """The default prompts with another wording, and with more templates."""
    file = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    return replace(file, target=wording or file.target, templates={**file.templates, **templates})


def opened(shape: Shape, folder: Path, target: str = "label_first", shown: Prompts | None = None) -> Encoder:
    config = StudentConfig.model_validate({"target": target})
    tokenizer = ChatTokenizer.load(shape.save(folder), {})
    return Encoder(tokenizer, shown or prompts(), None, EncodeSettings.of(config))


def answering(answer: str) -> Shape:
    """The good template with another form of an answer."""
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>' }}" + answer + "{% else %}"
        "{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    return replace(GOOD, template=template)


def asking(text: str) -> Shape:
    """The good template with another form of the user's turn."""
    return replace(
        GOOD,
        template="{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' }}" + text + "{{ '<|end|>' }}"
        "{% else %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    )


def test_a_good_template_is_accepted(tmp_path: Path) -> None:
    e = opened(GOOD, tmp_path)
    assert e.tokenizer.inner.convert_ids_to_tokens(e.chat.end_of_turn) == "<|end|>"


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (answering("{{ m.content + '<|im_end|>' }}"), "'<|im_end|>', which does not begin with"),
        (answering("{{ m.content + ' ### End' }}"), "'### End', which does not begin with"),
        (answering("{{ m.content | upper + '<|end|>' }}"), "does not show the answer exactly once"),
        (answering("{{ m.content | escape }}{{ '<|end|>' }}"), "does not show texts and answers as they are"),
        (answering("{{ m.content | replace('reason', 'r') + '<|end|>' }}"), "as they are"),
        (answering("{{ '<|end|>' }}"), "does not show the answer exactly once"),
        (answering("{{ m.content + m.content + '<|end|>' }}"), "does not show the answer exactly once"),
        (asking("{{ m.content | tojson }}"), "changes some of the whitespace"),
        (asking("{{ m.content | replace('<', '&lt;') }}"), "does not show texts and answers as they are"),
        (asking("{{ m.content | replace('\\n', ' ') }}"), "changes some of the whitespace"),
    ],
)
def test_a_template_that_changes_text_or_answer_or_does_not_end_it_is_rejected(
    tmp_path: Path, shape: Shape, what: str
) -> None:
    with pytest.raises(ModelError) as error:
        opened(shape, tmp_path)
    assert what in str(error.value)
    assert str(tmp_path) in str(error.value), "where"
    assert "set student.tokenizer" in str(error.value), "how to fix it"


def test_a_template_that_shows_a_text_twice_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="does not show the text exactly once"):
        opened(asking("{{ m.content + m.content }}"), tmp_path)


@pytest.mark.parametrize("target", ["label_only", "label_first", "reason_first"])
def test_a_stop_token_inside_an_answer_is_rejected(tmp_path: Path, target: str) -> None:
    with pytest.raises(ModelError, match="ends the student's answer too early"):
        opened(replace(GOOD, eos="<"), tmp_path, target)


@pytest.mark.parametrize("target", ["label_only", "label_first", "reason_first"])
def test_tags_that_decoding_drops_are_rejected(tmp_path: Path, target: str) -> None:
    shape = replace(GOOD, special=(*GOOD.special, "<label>"))
    with pytest.raises(ModelError, match=r"does not give the student's answer back.*choose other tags"):
        opened(shape, tmp_path, target)


def test_tags_that_are_added_tokens_are_accepted(tmp_path: Path) -> None:
    shape = replace(GOOD, plain=("<label>", "</label>", "<think>", "</think>"))
    words = TargetWording(reason_open="<think>", reason_close="</think>")
    e = opened(shape, tmp_path, "reason_first", prompts(words))
    tokens = e.completion(1, "it says </think> or <label>").tokens
    shown = e.tokenizer.inner.convert_ids_to_tokens(list(tokens))
    assert [t for t in shown if t in shape.control] == [
        "<think>",
        "</think>",
        "<label>",
        "</label>",
        "<|end|>",
    ]
    assert e.read(tokens[:-1])[1].label == 1


def test_a_prompt_that_ends_inside_a_token_of_the_answer_is_rejected(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role + ' l' + m.content + '<|end|>' }}{% endfor %}"
    words = TargetWording(label_open="abel ", label_close=";", reason_open="abel (", reason_close=")")
    with pytest.raises(ModelError, match=r"ends the prompt with ' l', which the tokenizer joins"):
        opened(replace(GOOD, template=template), tmp_path, "label_only", prompts(words))


def test_a_rejected_system_turn_names_its_setting(tmp_path: Path) -> None:
    shape = asking("{{ m.content }}")
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    shape = replace(shape, template=refuses + shape.template)
    assert opened(shape, tmp_path / "without").frame
    with pytest.raises(ModelError, match=r"no system turn.*student_system"):
        opened(shape, tmp_path / "with", shown=prompts(student_system="You judge."))


def test_a_tokenizer_without_an_end_token_is_rejected(tmp_path: Path) -> None:
    shape = replace(
        GOOD,
        template="{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}",
        special=(),
        eos="",
    )
    with pytest.raises(UserError, match="names no end of turn"):
        opened(shape, tmp_path)


@pytest.mark.parametrize("tokenizer", [byte_level, lambda: sentencepiece(legacy=False)])
def test_a_template_without_an_end_of_turn_uses_the_end_of_text(
    tmp_path: Path, tokenizer: Callable[[], Tokenizer]
) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    e = opened(replace(GOOD, template=template, tokenizer=tokenizer), tmp_path)
    tokens = e.completion(0, "It says so.").tokens
    assert e.tokenizer.inner.convert_ids_to_tokens(tokens[-1]) == "<|eos|>"
    assert e.read(tokens[:-1])[1].label == 0
