"""What costs nothing to train: the baselines that stand in the student's own table.

All learn from the gold labels of every train row, whatever the teacher answered and whatever was
rejected. How a text is counted is fixed: single words and pairs, or two to four characters within
words, which are two baselines of their own. How strongly each regression is held back is chosen on the
val rows at hand (core.evaluation.strength); nothing looks at test. Their thresholds are decided as
everybody's are (core.evaluation.decide_stage).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.errors import DataError
from core.evaluation.columns import Floats
from core.evaluation.predictions import Predictions
from core.evaluation.strength import GRID, choose_strength, undecided
from core.optional import CLASSICAL
from core.records import Example, SplitName

MAX_ITER = 1000
WORDS = {"analyzer": "word", "ngram_range": (1, 2), "sublinear_tf": True}
CHARACTERS = {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True}
FEATURES: Mapping[str, Mapping[str, Any]] = {"tfidf_words": WORDS, "tfidf_chars": CHARACTERS}
TITLES: Mapping[str, str] = {name: str(part) for name, part in CLASSICAL.items()}
"""The baselines by name, in the order of the tables."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """One baseline: how it was made and why so, and what it says of each split."""

    name: str
    title: str
    settings: Mapping[str, Any]
    scored: Mapping[SplitName, Predictions]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What was tried on val and why the settings are what they are; empty where there is no choice."""

    def to_json(self) -> dict[str, Any]:
        """What is written of it: everything but the scores of each row."""
        return {
            "title": self.title,
            "trained_on": "gold labels of all train rows",
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in self.settings.items()},
            **self.chosen,
        }


def baselines(
    train: Sequence[Example], splits: Mapping[SplitName, Sequence[Example]]
) -> tuple[Baseline, ...]:
    """Majority, TF-IDF words and TF-IDF characters, fitted on `train`, with what they say of `splits`.

    C of the two regressions is chosen on `splits["val"]` by log loss. Raises DataError where one of them is
    impossible; see `fit`.
    """
    return tuple(fit(name, train, splits) for name in TITLES)


def fit(name: str, train: Sequence[Example], splits: Mapping[SplitName, Sequence[Example]]) -> Baseline:
    """One baseline of TITLES.

    Raises DataError where these rows make it impossible: train is empty, or for a regression has one class,
    or has no text with a term to count.
    """
    if not train:
        raise DataError(f"{TITLES[name]}: the train split has no rows")
    if name == "majority":
        return _majority(sum(e.label for e in train) / len(train), splits)
    return _regression(name, TITLES[name], FEATURES[name], train, splits)


def _majority(share: float, splits: Mapping[SplitName, Sequence[Example]]) -> Baseline:
    """The share of positives in train as everyone's probability: at 0.5 it says train's larger class."""
    scored = {split: _scored(rows, np.full(len(rows), share)) for split, rows in splits.items()}
    return Baseline("majority", TITLES["majority"], {"share_positive": share}, scored)


def _regression(
    name: str,
    title: str,
    features: Mapping[str, Any],
    train: Sequence[Example],
    splits: Mapping[SplitName, Sequence[Example]],
) -> Baseline:
    fits = _Fits(title, features, train, splits)
    strength = undecided([e.label for e in splits.get("val", ())])
    strength = strength or choose_strength({c: fits.scored(c, "val") for c in GRID})
    scored = {split: fits.scored(strength.C, split) for split in splits}
    settings = {**features, "C": strength.C, "max_iter": MAX_ITER}
    return Baseline(name, title, settings, scored, strength.to_json())


class _Fits:
    """Regressions over the same TF-IDF, one for each C; texts are counted once, and each C is fitted once."""

    def __init__(
        self,
        title: str,
        features: Mapping[str, Any],
        train: Sequence[Example],
        splits: Mapping[SplitName, Sequence[Example]],
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        positive = sum(e.label for e in train)
        if positive in (0, len(train)):
            raise DataError(
                f"{title}: the train split has {len(train)} rows and {positive} positive ones; "
                "a regression needs both classes in train"
            )
        tfidf = TfidfVectorizer(**features)
        analyze = tfidf.build_analyzer()
        if not any(analyze(e.text) for e in train):
            raise DataError(f"{title}: no text of train holds anything it could count")
        self._train = tfidf.fit_transform([e.text for e in train])
        self._labels, self._splits = [e.label for e in train], splits
        self._counted: dict[SplitName, Any] = {}
        for split, rows in splits.items():
            if rows:
                there = split == "train" and rows is train
                self._counted[split] = self._train if there else tfidf.transform([e.text for e in rows])
        self._fitted: dict[float, Any] = {}

    def scored(self, c: float, split: SplitName) -> Predictions:
        """Return P(positive) for the rows of a split by the regression with regularization `c`."""
        if split not in self._counted:
            return _scored((), np.empty(0))
        return _scored(self._splits[split], self._fit(c).predict_proba(self._counted[split])[:, 1])

    def _fit(self, c: float) -> Any:
        from sklearn.linear_model import LogisticRegression

        if c not in self._fitted:
            self._fitted[c] = LogisticRegression(C=c, max_iter=MAX_ITER).fit(self._train, self._labels)
        return self._fitted[c]


def _scored(examples: Sequence[Example], p: Floats) -> Predictions:
    return Predictions.of([e.id for e in examples], p, gold=[e.label for e in examples])
