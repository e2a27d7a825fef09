"""The baseline stage: one that these rows make impossible is named, and no other is lost with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from core import jsonio
from core.data.writing import write_examples
from core.evaluation.baselines import IMPOSSIBLE, BaselineSettings, baseline
from core.optional import CLASSICAL, Part, PartFailed
from core.records import SPLITS, Example
from core.stage import StageIO

WORDS, CHARACTERS = "tfidf_words", "tfidf_chars"
LETTERS = [("a I a", 1), ("I a I I", 0), ("a a", 1), ("I", 0)]


def measured(folder: Path, rows: list[tuple[str, int]], without: tuple[Part, ...] = ()) -> dict[str, Any]:
    """What the stage writes of each baseline, where all splits have these texts."""
    for split in SPLITS:
        examples = [Example(f"{split}{i}", text, label) for i, (text, label) in enumerate(rows)]
        write_examples(folder / f"{split}.csv", examples)
    out = folder / "out"
    out.mkdir()
    baseline(BaselineSettings(seed=1, without=without), StageIO({"split": folder}, out))
    found: dict[str, Any] = json.loads((out / "baselines.json").read_text())
    scored = {path.name.rpartition("_")[0] for path in out.glob("*.jsonl")}
    assert scored == {name for name, about in found.items() if IMPOSSIBLE not in about}
    return found


def impossible(found: dict[str, Any]) -> set[str]:
    return {name for name, about in found.items() if IMPOSSIBLE in about}


@pytest.mark.parametrize(
    "rows",
    [
        [("🎁💰🤑", 1), ("🚲🌧", 0), ("🎉🎁", 1), ("☀🍞🚲", 0)],
        [("1 2 3", 1), ("4 5", 0), ("1 1 3", 1), ("5 5 4", 0)],
        LETTERS,
        [("!!", 1), ("??", 0), ("!?!", 1), ("- -", 0)],
    ],
    ids=["emoji", "digits", "letters", "punctuation"],
)
def test_texts_without_a_word_make_the_word_baseline_impossible_and_no_other(
    tmp_path: Path, rows: list[tuple[str, int]]
) -> None:
    found = measured(tmp_path, rows)
    assert impossible(found) == {WORDS}
    assert "no text of train" in found[WORDS][IMPOSSIBLE]
    assert found[WORDS]["title"] == "TF-IDF words + logistic regression"
    assert list(found) == list(CLASSICAL)


@pytest.mark.parametrize(
    "rows",
    [
        [("the of and", 1), ("to in the", 0)],
        [("the same text", 1), ("the same text", 0)],
        [("12 345", 1), ("67 890", 0)],
        [("日本語の文", 1), ("別の文です", 0)],
    ],
    ids=["stop words", "identical", "numbers", "Japanese"],
)
def test_texts_with_any_term_have_every_baseline(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    assert impossible(measured(tmp_path, rows)) == set()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_in_train_leaves_the_majority(tmp_path: Path, label: int) -> None:
    found = measured(tmp_path, [("win a prize", label), ("see you at home", label)])
    assert impossible(found) == {WORDS, CHARACTERS}
    assert "both classes in train" in found[CHARACTERS][IMPOSSIBLE]
    rows = list(jsonio.read_jsonl(tmp_path / "out/majority_test.jsonl"))
    assert [row["probability"] for row in rows] == [float(label)] * 2


def test_one_text_is_enough_for_the_majority(tmp_path: Path) -> None:
    assert impossible(measured(tmp_path, [("only this", 1)])) == {WORDS, CHARACTERS}


def test_splits_without_rows_make_every_baseline_impossible(tmp_path: Path) -> None:
    assert impossible(measured(tmp_path, [])) == set(CLASSICAL)


def test_a_baseline_that_fails_is_named_and_the_stage_can_be_repeated_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(self: object, *arguments: object) -> object:
        raise MemoryError("no room for the matrix")

    monkeypatch.setattr(LogisticRegression, "fit", exhausted)
    with pytest.raises(PartFailed) as caught:
        measured(tmp_path, [("win a prize", 1), ("see you", 0)])
    assert (caught.value.part, caught.value.error) == (Part.TFIDF_WORDS, "MemoryError")
    (tmp_path / "out").rename(tmp_path / "first")
    without = (Part.TFIDF_WORDS, Part.TFIDF_CHARACTERS)
    assert list(measured(tmp_path, [("win a prize", 1), ("see you", 0)], without)) == ["majority"]
