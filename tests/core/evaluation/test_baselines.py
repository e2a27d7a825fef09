"""The baselines: metrics on real messages, no influence of test labels, and impossible baselines."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from core import jsonio
from core.config import CalibrationConfig, ThresholdConfig
from core.errors import CLASSICAL, DataError, Part, PartFailed, UserError
from core.evaluation import baselines as module
from core.evaluation.baselines import (
    GRID,
    IMPOSSIBLE,
    Baseline,
    BaselineSettings,
    Candidate,
    baseline,
    choose,
    fit,
)
from core.evaluation.decision import Decision, fit_decision
from core.evaluation.metrics import Metrics, compute
from core.evaluation.predictions import Predictions
from core.evaluation.threshold import DEFAULT
from core.locations import packaged_path
from core.records import SPLITS, Example, SplitName, write_examples
from core.stage import StageIO
from tests.core.evaluation.scored import counts

REPO = Path(__file__).resolve().parents[3]
COUNTED = [name for name in CLASSICAL if not name.startswith("embedding")]
"""The baselines that need no encoder."""
Splits = dict[SplitName, list[Example]]


def baselines(train: list[Example], splits: Splits) -> list[Baseline]:
    return [fit(name, train, splits) for name in COUNTED]


@pytest.fixture(scope="module")
def messages() -> Splits:
    """The rows of configs/sms.yaml, read from the package that carries them."""
    split_file = REPO / "dataset" / "sms" / "split.csv"
    try:
        texts = packaged_path("package://textdescriptives/textdescriptives/data/spam.csv")
    except UserError as error:
        pytest.skip(str(error))
    if not split_file.is_file():
        pytest.skip(f"no {split_file}")
    with split_file.open(encoding="utf-8", newline="") as f:
        split_of = {row["id"]: row["split"] for row in csv.DictReader(f)}
    found: dict[str, Example] = {}
    with texts.open(encoding="latin-1", newline="") as f:
        for row in csv.DictReader(f):
            text = row["v2"].strip()
            name = hashlib.sha256(text.encode()).hexdigest()[:16]
            found[name] = Example(name, text, int(row["v1"] == "spam"))
    return {s: [e for i, e in found.items() if split_of.get(i) == s] for s in SPLITS}


@pytest.fixture(scope="module")
def measured(messages: Splits) -> dict[str, Baseline]:
    made = baselines(messages["train"], {"val": messages["val"], "test": messages["test"]})
    return {b.name: b for b in made}


def on_test(made: Baseline) -> Metrics:
    """A baseline's metrics on test, with the decision of the config's defaults on val."""
    found = fit_decision(made.scored["val"], ThresholdConfig(), CalibrationConfig(), seed=1)
    return Decision(found.calibrator, found.threshold.value, found.threshold.reason).metrics(
        made.scored["test"]
    )


def log_loss(made: Baseline) -> float | None:
    """Log loss on val."""
    return compute(made.scored["val"], threshold=None)["log_loss"]


def test_the_split_has_the_sizes_of_its_readme(messages: Splits) -> None:
    sizes = {s: (len(rows), sum(e.label for e in rows)) for s, rows in messages.items()}
    assert sizes == {"train": (400, 160), "val": (300, 40), "test": (600, 80)}


@pytest.mark.parametrize(
    ("name", "auroc", "macro_f1"), [("tfidf_words", 0.989, 0.960), ("tfidf_chars", 0.997, 0.974)]
)
def test_regressions_reach_the_expected_auroc_and_macro_f1(
    measured: dict[str, Baseline], name: str, auroc: float, macro_f1: float
) -> None:
    test = on_test(measured[name])
    assert test["auroc"] is not None
    assert test["macro_f1"] is not None
    assert round(test["auroc"], 3) >= auroc
    assert round(test["macro_f1"], 3) >= macro_f1


def test_majority_predicts_the_larger_class_of_train(measured: dict[str, Baseline]) -> None:
    m = compute(measured["majority"].scored["test"], DEFAULT)
    assert counts(m) == (0, 0, 80, 520)
    assert m["auroc"] == pytest.approx(0.5)
    assert m["precision"] is None


def tiny(n: int = 12) -> list[Example]:
    words = ("win a prize now", "see you at home")
    return [Example(f"t{i}", f"{words[i % 2]} number {i}", 1 - i % 2) for i in range(n)]


def test_test_labels_affect_neither_settings_nor_scores() -> None:
    rows = tiny()
    turned = [dataclasses.replace(e, label=1 - e.label) for e in rows]
    one = baselines(rows, {"val": rows, "test": rows})
    other = baselines(rows, {"val": rows, "test": turned})
    for a, b in zip(one, other, strict=True):
        assert a.to_json() == b.to_json()
        of_a, of_b = a.scored["test"], b.scored["test"]
        assert of_a.probability.tolist() == of_b.probability.tolist()
        assert of_a.positive.tolist() != of_b.positive.tolist()


def test_scores_keep_ids_and_row_order() -> None:
    rows = tiny()
    for made in baselines(rows, {"val": rows, "test": rows[::-1]}):
        assert list(made.scored["test"].ids) == [e.id for e in rows[::-1]]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_in_train_is_refused(label: int) -> None:
    rows = [dataclasses.replace(e, label=label) for e in tiny()]
    with pytest.raises(DataError, match="needs both classes in train"):
        baselines(rows, {"val": tiny()})


def test_texts_without_any_term_are_refused() -> None:
    rows = [Example("a", "!", 1), Example("b", "?", 0)]
    with pytest.raises(DataError, match=r"TF-IDF words .* no text of train contains anything"):
        baselines(rows, {"val": rows})


def test_settings_and_training_data_are_written() -> None:
    written = baselines(tiny(), {"val": tiny()})[2].to_json()
    assert set(written) == {"title", "trained_on", "settings", "settings_reason", "grid"}
    assert written["trained_on"] == "gold labels of all train rows"
    assert written["settings"] == {
        "analyzer": "char_wb",
        "ngram_range": [2, 4],
        "sublinear_tf": True,
        "C": GRID[-1],
        "max_iter": 2000,
    }
    assert written["settings_reason"] == (
        "the smallest log loss on 12 rows of val, of C 0.1, 0.3, 1, 3, 10, 30, 100, 300, "
        "and n-grams of 2 to 4 or 2 to 5"
    )
    assert [(tried["C"], tried["ngram_range"]) for tried in written["grid"]] == [
        (c, [2, longest]) for longest in (4, 5) for c in GRID
    ]


# How strongly a regression is held back is chosen on val.


def test_c_minimizes_log_loss_on_val_and_all_candidates_are_recorded(
    measured: dict[str, Baseline], messages: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = measured["tfidf_words"].to_json()
    assert [one["C"] for one in written["grid"]] == list(GRID)
    best = min(written["grid"], key=lambda one: one["log_loss"])
    assert written["settings"]["C"] == best["C"]
    assert log_loss(measured["tfidf_words"]) == pytest.approx(best["log_loss"])
    monkeypatch.setattr(module, "GRID", (1.0,))
    fixed = baselines(messages["train"], {"val": messages["val"]})[1]
    assert log_loss(fixed) == pytest.approx(written["grid"][GRID.index(1.0)]["log_loss"])
    assert "grid" not in measured["majority"].to_json()


def test_c_depends_on_the_labels_of_val() -> None:
    rows = tiny(40)
    noisy = [dataclasses.replace(e, label=i // 3 % 2) for i, e in enumerate(rows)]
    sure, unsure = (baselines(rows, {"val": val})[1].settings["C"] for val in (rows, noisy))
    assert (sure, unsure) == (GRID[-1], GRID[0])


def test_fitting_is_deterministic() -> None:
    one, other = (baselines(tiny(), {"val": tiny(8)}) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.to_json() == b.to_json()
        assert a.scored["val"].probability.tolist() == b.scored["val"].probability.tolist()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "C 10 by default: val has no rows, so it cannot choose"),
        ([0], "C 10 by default: all 1 rows of val are negative, so it cannot choose"),
        ([1, 1, 1], "C 10 by default: all 3 rows of val are positive, so it cannot choose"),
    ],
)
def test_c_is_the_default_if_val_has_fewer_than_two_classes(labels: list[int], reason: str) -> None:
    val = [Example(f"v{i}", "win a prize", label) for i, label in enumerate(labels)]
    written = baselines(tiny(), {"val": val, "test": tiny()})[1].to_json()
    assert (written["settings"]["C"], written["settings_reason"], written["grid"]) == (10.0, reason, [])


def test_ties_choose_the_smaller_c() -> None:
    rows = Predictions.of(["e0", "e1"], [0.3, 0.7], gold=[0, 1])
    worse = Predictions.of(["e0", "e1"], [0.5, 0.5], gold=[0, 1])
    short, long = {"ngram_range": (2, 4)}, {"ngram_range": (2, 5)}
    tried = [(0.1, short, worse), (1.0, short, rows), (1.0, long, rows)]
    best, record = choose([(Candidate(c, tfidf), scored) for c, tfidf, scored in tried])
    assert best == 1
    assert [tried["auroc"] for tried in record["grid"]] == [0.5, 1.0, 1.0]


def test_each_split_is_vectorized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    counted: list[int] = []
    for name in ("fit_transform", "transform"):
        method = getattr(TfidfVectorizer, name)

        def counting(self: object, texts: list[str], *args: object, _of: Any = method) -> object:
            counted.append(len(texts))
            return _of(self, texts, *args)

        monkeypatch.setattr(TfidfVectorizer, name, counting)
    train = tiny()
    baselines(train, {"train": train, "val": tiny(10), "test": tiny(8)})
    assert counted == [12, 10, 8] * 3  # words, and characters in two ranges


WORDS, CHARACTERS = "tfidf_words", "tfidf_chars"


def written_by_stage(
    folder: Path, rows: list[tuple[str, int]], without: tuple[Part, ...] = ()
) -> dict[str, Any]:
    """baselines.json of the stage, with these texts in all splits."""
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
        [("!!", 1), ("??", 0), ("!?!", 1), ("- -", 0)],
    ],
    ids=["emoji", "punctuation"],
)
def test_texts_without_words_make_only_the_word_baseline_impossible(
    tmp_path: Path, rows: list[tuple[str, int]]
) -> None:
    found = written_by_stage(tmp_path, rows)
    assert impossible(found) == {WORDS}
    assert "no text of train" in found[WORDS][IMPOSSIBLE]
    assert found[WORDS]["title"] == "TF-IDF words + logistic regression"
    assert list(found) == COUNTED


@pytest.mark.parametrize(
    "rows",
    [
        [("the of and", 1), ("to in the", 0)],
        [("the same text", 1), ("the same text", 0)],
        [("12 345", 1), ("67 890", 0)],
        [("日本語の文", 1), ("別の文です", 0)],
        [("1 2 3", 1), ("4 5", 0)],
        [("a I a", 1), ("a I I", 0)],
    ],
    ids=["stop words", "identical", "numbers", "Japanese", "digits", "letters"],
)
def test_texts_with_any_term_allow_every_baseline(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    assert impossible(written_by_stage(tmp_path, rows)) == set()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_in_train_allows_only_the_majority(tmp_path: Path, label: int) -> None:
    found = written_by_stage(tmp_path, [("win a prize", label), ("see you at home", label)])
    assert impossible(found) == {WORDS, CHARACTERS}
    assert "both classes in train" in found[CHARACTERS][IMPOSSIBLE]
    rows = list(jsonio.read_jsonl(tmp_path / "out/majority_test.jsonl"))
    assert [row["probability"] for row in rows] == [float(label)] * 2


def test_one_text_allows_the_majority(tmp_path: Path) -> None:
    assert impossible(written_by_stage(tmp_path, [("only this", 1)])) == {WORDS, CHARACTERS}


def test_splits_without_rows_make_every_baseline_impossible(tmp_path: Path) -> None:
    assert impossible(written_by_stage(tmp_path, [])) == set(COUNTED)


def test_a_failing_baseline_is_named_and_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(self: object, *arguments: object) -> object:
        raise MemoryError("no room for the matrix")

    monkeypatch.setattr(LogisticRegression, "fit", exhausted)
    with pytest.raises(PartFailed) as caught:
        written_by_stage(tmp_path, [("win a prize", 1), ("see you", 0)])
    assert (caught.value.part, caught.value.error) == (Part.TFIDF_WORDS, "MemoryError")
    (tmp_path / "out").rename(tmp_path / "first")
    without = (Part.TFIDF_WORDS, Part.TFIDF_CHARACTERS)
    assert list(written_by_stage(tmp_path, [("win a prize", 1), ("see you", 0)], without)) == ["majority"]
