"""A whole small project on disk: our own texts, rules, prompts, answers, a tiny real-format model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with everything a config names; returns the config's path."""
    monkeypatch.chdir(tmp_path)
    rows = texts()
    with (tmp_path / "texts.csv").open("w", newline="") as f:
        csv.writer(f).writerows([("id", "text", "label"), *rows])
    with (tmp_path / "answers.jsonl").open("w") as f:
        for id_, text, label in rows:
            quoted = " ".join(text.split()[:3])
            reasoning = f'The words "{quoted}" decide this one [R{2 - label}].'
            f.write(json.dumps({"id": id_, "reasoning": reasoning, "label": label}) + "\n")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/R1_prizes.txt").write_text("R1 Prizes nobody asked for are spam.")
    (tmp_path / "rules/R2_people.txt").write_text("R2 People who know each other are not.")
    config = {
        "run": {"root": "out"},
        "data": {"path": "texts.csv", "id_column": "id", "near_duplicates": {"enabled": False}},
        "prompts": {"file": str(REPO / "prompts/default.yaml")},
        "teacher": {"answers": "answers.jsonl"},
        "rejection": {"rules": ["unparsed", "label_mismatch", "no_rule_cited", "quote_not_in_text"]},
        "student": {
            "model": str(tiny_model),
            "lora": {"rank": 2, "alpha": 4},
            "batch_size": 8,
            "steps": 6,
            "learning_rate": 1e-2,
            "max_length": 256,
            "threads": 1,
        },
        "evaluation": {"interval": 2},
        "export": {"reasoning_rows": 2, "max_new_tokens": 8},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
