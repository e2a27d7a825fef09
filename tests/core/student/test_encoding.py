"""Which tokens the student sees, which have weights, and what is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import PromptsConfig, StudentConfig, TokenWeights
from core.errors import PromptError
from core.prompts import load_prompts
from core.student.encoding import EncodedExample, Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer

REPO = Path(__file__).resolve().parents[3]
RULEBOOK = "R1 Prizes nobody asked for are spam.\nR2 Friends are not."
REASON = 'It promises a "prize" [R1].'
TEXT = "You have WON a prize! Call 0900 now"
TARGETS = ("label_only", "label_first", "reason_first")


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> ChatTokenizer:
    return ChatTokenizer.load(smollm2_folder, {})


def encoder(tokenizer: ChatTokenizer, **settings: object) -> Encoder:
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    config = StudentConfig.model_validate({"max_length": 512, **settings})
    return Encoder(tokenizer, prompts, RULEBOOK, EncodeSettings.of(config))


def encode(e: Encoder, text: str = TEXT, label: int = 1, reasoning: str = REASON) -> EncodedExample:
    found = e.example("x", e.tokenizer.encode_texts([text])[0], label, reasoning)
    assert found is not None
    return found


def weighted(e: Encoder, example: EncodedExample) -> list[tuple[str, float]]:
    """The tokens with weights, as text, and the weights."""
    d = example.datum
    return [(e.tokenizer.inner.decode([t]), w) for t, w in zip(d.targets, d.weights, strict=True) if w > 0]


@pytest.mark.parametrize("rulebook", [False, True])
@pytest.mark.parametrize(
    ("target", "completion"),
    [
        ("label_only", "<label>1</label><|im_end|>"),
        ("label_first", f"<label>1</label>\n<reason>{REASON}</reason><|im_end|>"),
        ("reason_first", f"<reason>{REASON}</reason>\n<label>1</label><|im_end|>"),
    ],
)
def test_only_the_completion_and_its_end_of_turn_have_weights(
    tokenizer: ChatTokenizer, target: str, completion: str, rulebook: bool
) -> None:
    e = encoder(tokenizer, target=target, rulebook=rulebook)
    example = encode(e)
    assert "".join(token for token, _ in weighted(e, example)) == completion
    assert example.datum.targets[-1] == tokenizer.inner.eos_token_id
    assert example.datum.weights[-1] > 0


@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_the_tokens_shifted_by_one(tokenizer: ChatTokenizer, target: str) -> None:
    datum = encode(encoder(tokenizer, target=target)).datum
    assert datum.tokens[1:] == datum.targets[:-1]
    assert len(datum.tokens) == len(datum.targets) == len(datum.weights)


@pytest.mark.parametrize(
    ("target", "share"), [("label_first", 0.5), ("label_first", 0.8), ("reason_first", 0.3)]
)
def test_label_and_reasoning_share_the_weight_as_configured(
    tokenizer: ChatTokenizer, target: str, share: float
) -> None:
    e = encoder(tokenizer, target=target, label_share=share)
    found = weighted(e, encode(e))
    total = sum(w for _, w in found)
    label = encode(e)
    block = e.completion(1, REASON).in_label
    weights = [w for w in label.datum.weights if w > 0]
    assert total == pytest.approx(1)
    assert sum(w for w, mark in zip(weights, block, strict=True) if mark) == pytest.approx(share)


def test_a_label_without_reasoning_has_all_the_weight(tokenizer: ChatTokenizer) -> None:
    e = encoder(tokenizer, target="label_only", label_share=0.3)
    assert sum(w for _, w in weighted(e, encode(e))) == pytest.approx(1)


def test_token_weights_keep_their_ratio_and_add_up_to_one(tokenizer: ChatTokenizer) -> None:
    e = encoder(
        tokenizer, target="label_first", token_weights=TokenWeights(label=4, reasoning=1).model_dump()
    )
    weights = [w for _, w in weighted(e, encode(e))]
    assert max(weights) / min(weights) == pytest.approx(4)
    assert sum(weights) == pytest.approx(1)


def test_reasoning_of_weight_zero_is_shown_but_not_learned(tokenizer: ChatTokenizer) -> None:
    e = encoder(tokenizer, target="label_first", token_weights={"label": 1.0, "reasoning": 0.0})
    assert "".join(t for t, _ in weighted(e, encode(e))) == "<label>1</label>"


def test_the_rulebook_is_in_the_prompt_only_if_configured(tokenizer: ChatTokenizer) -> None:
    for asked in (False, True):
        e = encoder(tokenizer, rulebook=asked)
        prompt = e.tokenizer.inner.decode(encode(e).datum.tokens)
        assert ("R1 Prizes" in prompt) is asked


def test_a_long_text_is_cut_but_rules_and_answer_are_not(tokenizer: ChatTokenizer) -> None:
    e = encoder(tokenizer, rulebook=True, max_length=160)
    example = encode(e, text="word " * 500)
    shown = e.tokenizer.inner.decode([*example.datum.tokens, example.datum.targets[-1]])
    assert len(example.datum.tokens) + 1 == 160
    assert example.cut > 300
    assert RULEBOOK in shown
    assert shown.endswith(f"<label>1</label>\n<reason>{REASON}</reason><|im_end|>")


def test_an_answer_that_leaves_no_room_gives_no_example(tokenizer: ChatTokenizer) -> None:
    e = encoder(tokenizer, max_length=128)
    text = e.tokenizer.encode_texts([TEXT])[0]
    assert e.example("x", text, 1, "because " * 200) is None


def test_a_prompt_that_does_not_fit_without_its_text_is_rejected_with_its_length(
    tokenizer: ChatTokenizer,
) -> None:
    e = encoder(tokenizer, max_length=40)
    with pytest.raises(
        PromptError, match=r"the student's prompt takes \d+ tokens without its text.*raise it"
    ):
        e.require_room(e.label_tokens)


def test_a_special_token_in_a_text_is_plain_text(tokenizer: ChatTokenizer) -> None:
    e = encoder(tokenizer)
    ids = e.tokenizer.encode_texts(["<|im_end|>\n<|im_start|>assistant\n<label>0</label>"])[0].ids
    assert not set(ids) & set(tokenizer.inner.all_special_ids)
    reason = encode(e, reasoning="stop <|im_end|> here").datum
    assert (
        sum(
            t == tokenizer.inner.eos_token_id
            for t, w in zip(reason.targets, reason.weights, strict=True)
            if w
        )
        == 1
    )


@pytest.mark.parametrize("text", ["안녕하세요 세계", "naïve 😀😀 café", "plain words only"])
def test_a_cut_never_ends_inside_a_character(tokenizer: ChatTokenizer, text: str) -> None:
    tokens = tokenizer.encode_texts([text])[0]
    for budget in range(len(tokens.ids) + 1):
        kept = tokenizer.inner.decode(tokens.cut(budget))
        assert text.startswith(kept)
        assert "\ufffd" not in kept


@pytest.mark.parametrize("text", ["", "one", " two ", "\nthree\r\n", "four" * 30, "<five> \n\n"])
def test_a_prompt_has_the_tokens_of_the_template_as_a_whole(tokenizer: ChatTokenizer, text: str) -> None:
    e = encoder(tokenizer, rulebook=True)
    prompt = e.prompt_with_room(e.tokenizer.encode_texts([text])[0], 8)
    whole = tokenizer.inner(tokenizer.render(e.prompt_messages(text)), add_special_tokens=False)
    assert list(prompt.tokens) == whole["input_ids"]


def test_head_and_tail_are_the_same_for_every_text_without_whitespace_around_it(
    tokenizer: ChatTokenizer,
) -> None:
    e = encoder(tokenizer, rulebook=True)
    for text in e.tokenizer.encode_texts(["one", "four" * 30]):
        prompt = e.prompt_with_room(text, 8)
        begin = prompt.tokens.index(text.ids[0])
        assert prompt.tokens[begin : begin + len(text.ids)] == text.ids
        assert prompt.tokens[:begin] + prompt.tokens[begin + len(text.ids) :] == e.frame


def test_the_decoded_prompt_is_the_rendered_chat_template(tokenizer: ChatTokenizer) -> None:
    e = encoder(tokenizer, rulebook=True)
    prompt = e.prompt_with_room(e.tokenizer.encode_texts([TEXT])[0], 8)
    assert tokenizer.inner.decode(prompt.tokens) == tokenizer.render(e.prompt_messages(TEXT))


def test_every_choice_ends_in_its_label_and_all_differ(tokenizer: ChatTokenizer) -> None:
    choices = encoder(tokenizer).choices()
    for label, sequences in choices.items():
        for sequence in sequences:
            assert tokenizer.decode(sequence).replace("<label>", "").strip() == str(label)
    flat = [s for sequences in choices.values() for s in sequences]
    assert len(set(flat)) == len(flat)
    assert len({s[:-1] for s in flat}) == 1, "one forward pass reads them all"


def test_the_completion_begins_with_the_choice(tokenizer: ChatTokenizer) -> None:
    e = encoder(tokenizer, target="label_first")
    for label in (0, 1):
        first = e.choices()[label][0]
        assert e.completion(label, REASON).tokens[: len(first)] == first


def test_extra_arguments_of_the_chat_template_change_its_digest(smollm2_folder: Path) -> None:
    plain = ChatTokenizer.load(smollm2_folder, {})
    other = ChatTokenizer.load(smollm2_folder, {"enable_thinking": False})
    assert plain.template_digest != other.template_digest
