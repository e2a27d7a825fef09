"""A tiny model that answers in a target's form and knows nothing: either label, and some rule, by chance.

What reinforcement needs to begin with. It is trained here, in plain torch, on texts of the small project.
"""

from __future__ import annotations

import itertools
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.config import PromptsConfig
from core.prompts import load_prompts
from core.student.conversation import Target
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer
from tests.small_project import REPO, texts

VOCABULARY = 49152
STEPS, ROWS = 150, 8
Row = tuple[list[int], int]
"""Tokens, and the place where the answer begins."""


def write_answering_model(folder: Path, tokenizer: Path, target: Target = "label_only") -> None:
    """Fill `folder` with the model and the tokenizer that lies in `tokenizer`."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / name, folder / name)
    batches = list(itertools.islice(_batches(folder, target), STEPS))
    used = sorted({token for rows in batches for tokens, _ in rows for token in tokens})
    torch.manual_seed(7)
    small = _trained(_model(len(used)), batches, used)
    weights = small.state_dict()
    whole = torch.zeros(VOCABULARY, small.config.hidden_size)
    whole[used] = weights["model.embed_tokens.weight"]
    model = _model(VOCABULARY)
    model.load_state_dict({**weights, "model.embed_tokens.weight": whole, "lm_head.weight": whole})
    model.save_pretrained(folder)


def _model(vocabulary: int) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama",
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.2,
        pad_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    return AutoModelForCausalLM.from_config(config)


def _trained(model: Any, batches: list[list[Row]], used: list[int]) -> Any:
    """Trained on the tokens that occur alone; those that do not have logits of 0 in the whole model."""
    import torch

    number = {token: i for i, token in enumerate(used)}
    rest = math.log(VOCABULARY - len(used))
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for rows in batches:
        optimiser.zero_grad()
        _loss(model, [([number[t] for t in tokens], begin) for tokens, begin in rows], rest).backward()
        optimiser.step()
    return model


def _batches(folder: Path, target: Target) -> Iterator[list[Row]]:
    settings = EncodeSettings(
        target=target,
        rulebook=False,
        max_length=256,
        chat_template_args={},
        label_share=None,
        token_weights=None,
    )
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    encoder = Encoder(ChatTokenizer.load(folder, {}), prompts, None, settings)
    known = encoder.tokenizer.encode_texts([text for _, text, _ in texts()])
    dice = random.Random(5)
    while True:
        rows = []
        for text in dice.sample(known, ROWS):
            said = dice.choice(["Rule R1 says so.", "Rule R2 says so.", "Nobody knows."])
            answer = encoder.completion(dice.randrange(2), said).tokens
            prompt = encoder.prompt(text, len(answer))
            assert prompt is not None
            rows.append(([*prompt.tokens, *answer], len(prompt.tokens)))
        yield rows


def _loss(model: Any, rows: list[Row], rest: float) -> Any:
    import torch

    longest = max(len(tokens) for tokens, _ in rows)
    grid = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens, _ in rows])
    hidden = model.model(input_ids=grid).last_hidden_state
    said = [(i, place) for i, (tokens, begin) in enumerate(rows) for place in range(begin, len(tokens))]
    at, places = torch.tensor(said).T
    logits = model.lm_head(hidden[at, places - 1])
    logits = torch.cat([logits, torch.full((len(logits), 1), rest)], dim=1)
    return torch.nn.functional.cross_entropy(logits, grid[at, places])
