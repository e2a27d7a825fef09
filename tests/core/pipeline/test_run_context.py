"""The prompts of a run: with and without rulebook a text has the same room, and modes may share a prompt."""

from __future__ import annotations

import pytest

from core.errors import PromptError
from core.student.encoding import EncodeSettings
from tests.core.pipeline.making import Made, context


def test_texts_are_cut_equally_with_and_without_the_rulebook(made: Made) -> None:
    """max_length leaves 30 tokens for a text in the student's own prompt, and so in the other."""
    own = context(made.config).encoder()
    bench = context(made.config, [f"student.max_length={len(own.frame) + own.label_tokens + 30}"])
    shown = EncodeSettings.of(bench.config.student).model_copy(update={"rulebook": True})
    text = bench.tokenizer.encode_texts(["one more word " * 40])[0]
    prompts = [
        encoder.prompt_with_room(text, encoder.label_tokens)
        for encoder in (bench.encoder(), bench.encoder_of(shown, False))
    ]
    assert prompts[0].cut == prompts[1].cut > 0
    assert len(prompts[1].tokens) > len(prompts[0].tokens)


def test_a_prompt_beyond_the_models_context_is_rejected(made: Made) -> None:
    context(made.config, ["student.max_length=2048"]).check_room()
    with pytest.raises(PromptError, match=r"with up to 2049 tokens, but \./model has room for 2048"):
        context(made.config, ["student.max_length=2049"]).check_room()
    with pytest.raises(PromptError, match="has room for 2048"):
        context(made.config, ["student.max_length=2048"]).check_room(rulebook=True)


@pytest.mark.parametrize(
    ("target", "same"), [("label_only", True), ("label_first", False), ("reason_first", False)]
)
def test_a_label_only_student_has_the_same_prompt_in_both_modes(made: Made, target: str, same: bool) -> None:
    of = context(made.config, [f"student.target={target}"])
    assert of.label_only_is_the_same == same
    frames = [of.encoder(label_only).frame for label_only in (False, True)]
    assert (frames[0] == frames[1]) == same
