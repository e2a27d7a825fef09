"""The prompts of a run: the other one has the same texts and room for them, and the modes may share one."""

from __future__ import annotations

import pytest

from core.errors import PromptError
from core.student.encoding import EncodeSettings
from tests.core.pipeline.making import Made, context


def test_texts_are_cut_alike_whether_the_rulebook_is_shown_or_not(made: Made) -> None:
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


def test_a_prompt_beyond_the_models_context_is_refused(made: Made) -> None:
    context(made.config, ["student.max_length=2048"]).check_room()
    with pytest.raises(PromptError, match=r"with up to 2049 tokens, but \./model has room for 2048"):
        context(made.config, ["student.max_length=2049"]).check_room()
    with pytest.raises(PromptError, match="has room for 2048"):
        context(made.config, ["student.max_length=2048"]).check_room(rulebook=True)


@pytest.mark.parametrize(
    ("target", "same"), [("label_only", True), ("label_first", False), ("reason_first", False)]
)
def test_a_student_that_learnt_label_only_is_asked_the_same_in_either_mode(
    made: Made, target: str, same: bool
) -> None:
    of = context(made.config, [f"student.target={target}"])
    assert of.label_only_is_the_same == same
    frames = [of.encoder(label_only).frame for label_only in (False, True)]
    assert (frames[0] == frames[1]) == same
