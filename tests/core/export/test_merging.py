"""Merged weights stop at the end of turn that the student was trained on, in any library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from core import jsonio
from core.base_model import ModelSource
from core.config import PromptsConfig, StudentConfig
from core.engines.local import write_merged
from core.prompts import load_prompts
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer
from tests.core.student.template_shapes import SHAPES, Shape

REPO = Path(__file__).resolve().parents[3]
CHOSEN = [shape for shape in SHAPES if shape.name in ("llama2", "llama3", "qwen2.5", "gemma", "phi3")]


def write_model(folder: Path, shape: Shape) -> Encoder:
    """Save a base model that ends its turn at once and then continues, since its own end is another token."""
    tokenizer = ChatTokenizer.load(shape.save(folder), {})
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    encoder = Encoder(tokenizer, prompts, None, EncodeSettings.of(StudentConfig()))
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer.inner),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        eos_token_id=OTHER,
        pad_token_id=OTHER,
    )
    model = AutoModelForCausalLM.from_config(config)
    _end_at_once(model, encoder.chat.end_of_turn)
    model.generation_config = GenerationConfig(eos_token_id=[OTHER], pad_token_id=OTHER, max_length=512)
    model.save_pretrained(folder)
    return encoder


OTHER, FILLER = 3, 4
"""Tokens other than the end of turn: the base model's own end, and its output after the turn."""


def _end_at_once(model: Any, end: int) -> None:
    """Make the model generate the end of turn after any prompt, and then FILLER forever."""
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        embed, head = model.model.embed_tokens.weight, model.lm_head.weight
        embed.zero_()
        head.zero_()
        embed[:, 0] = 1.0
        embed[[end, FILLER]] = torch.eye(embed.shape[1])[1]
        head[end, 0] = head[FILLER, 1] = 10.0


def continued(folder: Path, tokens: tuple[int, ...]) -> list[int]:
    """The tokens that transformers generates after a prompt, with the model in a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([tokens])
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=False)
    found: list[int] = out[0, len(tokens) :].tolist()
    return found


@pytest.mark.parametrize("shape", CHOSEN, ids=lambda shape: shape.name)
def test_transformers_stops_at_the_trained_end_of_turn(tmp_path: Path, shape: Shape) -> None:
    base, merged = tmp_path / "base", tmp_path / "merged"
    encoder = write_model(base, shape)
    end, prompt = encoder.chat.end_of_turn, encoder.prompt_tokens("You have won")
    assert continued(base, prompt) == [end, FILLER, FILLER, FILLER, FILLER], "the base model continues"
    write_merged(ModelSource(base, "", "base"), None, base, merged, "float32", end_of_turn=end)
    assert jsonio.read_json(merged / "generation_config.json")["eos_token_id"] == end
    assert jsonio.read_json(merged / "config.json")["eos_token_id"] == end
    assert continued(merged, prompt) == [end]


@pytest.mark.parametrize("shape", CHOSEN, ids=lambda shape: shape.name)
def test_the_end_of_text_token_changes_unless_the_template_writes_it(tmp_path: Path, shape: Shape) -> None:
    base, merged = tmp_path / "base", tmp_path / "merged"
    encoder = write_model(base, shape)
    (base / "tokenizer_config.json").chmod(0o444)
    end = encoder.chat.end_of_turn
    write_merged(ModelSource(base, "", "base"), None, base, merged, "float32", end_of_turn=end)
    found = AutoTokenizer.from_pretrained(merged)
    assert found.eos_token == (shape.eos if "eos_token" in shape.template else shape.end)
    turns = [{"role": "user", "content": "You have won"}, {"role": "assistant", "content": "yes"}]
    before = encoder.tokenizer.inner.apply_chat_template(turns, tokenize=False)
    assert found.apply_chat_template(turns, tokenize=False) == before
