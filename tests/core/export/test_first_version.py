"""Bundles of version 0.1 are refused where that version asked the student with other tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import PromptsConfig, StudentConfig
from core.errors import ModelError
from core.export.bundle import check_first_version
from core.prompts import load_prompts
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer
from tests.core.student.template_shapes import SHAPES, Shape

REPO = Path(__file__).resolve().parents[3]
ALIKE = {"smollm2", "qwen2.5", "whitespace"}
"""Whose prompt 0.1 tokenized as the template does, if the text has no space around it."""


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_only_prompts_with_the_same_tokens_are_taken(tmp_path: Path, shape: Shape) -> None:
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    tokenizer = ChatTokenizer.load(shape.save(tmp_path), {})
    encoder = Encoder(tokenizer, prompts, None, EncodeSettings.of(StudentConfig()))
    if shape.name in ALIKE:
        check_first_version(tmp_path, encoder)
        return
    with pytest.raises(ModelError, match=r"version 0\.1"):
        check_first_version(tmp_path, encoder)
