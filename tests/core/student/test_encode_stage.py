"""Which samples the encode stage trains on, and what its summary counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import PromptsConfig, StudentConfig
from core.errors import DataError
from core.pipeline.run_context import RunContext
from core.prompts import load_prompts
from core.stage import StageIO
from core.student.encode_stage import DATA_FILE, EncodeStageSettings, encode, read_data
from core.student.encoding import Encoder
from core.student.tokenizer import ChatTokenizer
from tests.building import small_config

REPO = Path(__file__).resolve().parents[3]
TEXT = "You have won a prize, call now to claim it before noon. " * 2
LENGTH = 160


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> ChatTokenizer:
    return ChatTokenizer.load(smollm2_folder, {})


def sample(number: int, words: int, text: str = TEXT) -> dict[str, Any]:
    """An accepted sample whose reason has about `words` tokens."""
    return {
        "sample_id": f"s{number}",
        "example_id": f"s{number}",
        "text": text,
        "label": number % 2,
        "reasoning": "because " * words,
        "teacher_pred_label": number % 2,
        "parse_source": "fields",
    }


def encoded(
    tokenizer: ChatTokenizer, folder: Path, rows: list[dict[str, Any]], **settings: Any
) -> dict[str, Any]:
    """Run the stage into `folder`/out and return its summary."""
    jsonio.write_jsonl(folder / "in/accepted_samples.jsonl", rows)
    student = StudentConfig.model_validate({"max_length": LENGTH, **settings})
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    config = EncodeStageSettings.for_training(student, 7)
    (folder / "out").mkdir()
    of = RunContext(small_config(student={"max_length": LENGTH, **settings}))
    of.prompts, of.tokenizer = prompts, tokenizer
    return encode(config, StageIO({"reject": folder / "in"}, folder / "out", run=of))


def reason_that_leaves(tokenizer: ChatTokenizer, tokens: int) -> int:
    """Words of a reason next to which `tokens` tokens of TEXT have room."""
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    config = EncodeStageSettings.for_training(StudentConfig(max_length=LENGTH), 7)
    encoder = Encoder(tokenizer, prompts, None, config)
    text = tokenizer.encode_texts([TEXT])[0]
    for words in range(LENGTH):
        example = encoder.example("x", text, 1, "because " * words)
        if example is not None and len(text.ids) - example.cut == tokens:
            return words
    raise AssertionError(f"no reason leaves {tokens} tokens")


def test_a_sample_whose_reason_leaves_one_token_of_its_text_is_dropped_and_counted(
    tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    long = reason_that_leaves(tokenizer, 1)
    rows = [sample(0, 5), sample(1, long), sample(2, 6), sample(3, LENGTH * 2), sample(4, long)]
    summary = encoded(tokenizer, tmp_path, rows)
    assert summary["accepted"] == 5
    assert summary["examples"] == 2
    assert summary["dropped"] == 3
    assert summary["dropped_by"] == {"no_room": 1, "too_little_text": 2}
    assert summary["dropped_samples"] == ["s1", "s3", "s4"]
    assert len(read_data(tmp_path / "out" / DATA_FILE)) == 2
    kept = list(jsonio.read_jsonl(tmp_path / "out/train_sft.jsonl"))
    assert [row["sample_id"] for row in kept] == ["s0", "s2"]
    assert jsonio.read_json(tmp_path / "out/encode_summary.json") == summary


@pytest.mark.parametrize(("share", "kept"), [(0.0, 4), (0.1, 3), (0.3, 2), (0.8, 1)])
def test_the_minimum_share_of_text_is_a_setting(
    tokenizer: ChatTokenizer, tmp_path: Path, share: float, kept: int
) -> None:
    text = len(tokenizer.encode_texts([TEXT])[0].ids)
    reasons = [1, *(reason_that_leaves(tokenizer, round(text * s)) for s in (0.05, 0.2, 0.6))]
    rows = [sample(i, words) for i, words in enumerate(reasons)]
    summary = encoded(tokenizer, tmp_path, rows, min_text_share=share)
    assert summary["examples"] == kept
    assert summary["dropped_by"] == {"no_room": 0, "too_little_text": 4 - kept}


def test_the_share_of_a_text_is_relative_to_what_evaluation_shows(
    tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    rows = [sample(0, 5, TEXT * 20), sample(1, 6, TEXT * 30)]
    summary = encoded(tokenizer, tmp_path, rows, min_text_share=0.8)
    assert (summary["examples"], summary["cut_texts"]) == (2, 2)


def test_dropping_every_sample_is_an_error_that_names_the_setting(
    tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    long = reason_that_leaves(tokenizer, 1)
    with pytest.raises(DataError, match=r"student\.min_text_share \(2\)"):
        encoded(tokenizer, tmp_path, [sample(0, long), sample(1, long)])
    assert not (tmp_path / "out/encode_summary.json").exists()
