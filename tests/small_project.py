"""A whole small project on disk: our own texts, rules, answers, and a tiny model in the real format."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import yaml

REPO = Path(__file__).resolve().parents[1]
SPAM = "You have won prize number {i}, call now to claim your {w} gift"
HAM = "See you at {w} around {i}, bring the papers please"
WORDS = ("lunch", "school", "garden", "train", "office", "harbour", "market")


def texts() -> list[tuple[str, str, int]]:
    """Sixty texts of our own: id, text, label."""
    rows = []
    for i in range(60):
        spam = i % 3 == 0
        text = (SPAM if spam else HAM).format(i=i * 37 % 101, w=WORDS[i % len(WORDS)])
        rows.append((f"t{i:02}", text, int(spam)))
    return rows


def write_project(folder: Path, model: Path | str) -> Path:
    """Write everything a config names into `folder`; returns the config's path.

    The config's paths are relative to `folder`, which has to be the working directory.
    """
    rows = texts()
    with (folder / "texts.csv").open("w", newline="") as f:
        csv.writer(f).writerows([("id", "text", "label"), *rows])
    with (folder / "answers.jsonl").open("w") as f:
        for id_, text, label in rows:
            quoted = " ".join(text.split()[:3])
            reasoning = f'The words "{quoted}" decide this one [R{2 - label}].'
            f.write(json.dumps({"id": id_, "reasoning": reasoning, "label": label}) + "\n")
    (folder / "rules").mkdir()
    (folder / "rules/R1_prizes.txt").write_text("R1 Prizes nobody asked for are spam.")
    (folder / "rules/R2_people.txt").write_text("R2 People who know each other are not.")
    config = {
        "run": {"root": "out"},
        "data": {"path": "texts.csv", "id_column": "id", "near_duplicates": {"enabled": False}},
        "prompts": {"file": str(REPO / "prompts/default.yaml")},
        "teacher": {"answers": "answers.jsonl"},
        "rejection": {"rules": ["unparsed", "label_mismatch", "no_rule_cited", "quote_not_in_text"]},
        "student": {
            "model": str(model),
            "lora": {"rank": 2, "alpha": 4},
            "batch_size": 8,
            "steps": 6,
            "learning_rate": 1e-2,
            "max_length": 256,
            "engine": {"threads": 1, "train_dtype": "float32"},
        },
        "evaluation": {"interval": 2},
        "export": {"reasoning_rows": 2, "max_new_tokens": 8},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def write_tiny_model(folder: Path, tokenizer: Path) -> None:
    """Fill `folder` with a random two-layer Llama and the tokenizer that lies in `tokenizer`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama",
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / name, folder / name)
