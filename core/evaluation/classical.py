"""What costs nothing to train: the baselines that stand in the student's own table.

All learn from the gold labels of every train row, whatever the teacher answered and whatever was
rejected. How a text is counted is fixed: single words and pairs, or two to four characters within
words, which are two baselines of their own. How strongly each regression is held back is chosen on the
val rows at hand (choose_strength); nothing looks at test. Their thresholds are decided as
everybody's are (core.evaluation.decide_stage).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from core.errors import DataError
from core.evaluation.metrics import compute
from core.evaluation.predictions import Floats, Predictions
from core.optional import CLASSICAL
from core.records import Example, SplitName

MAX_ITER = 1000
GRID = (0.1, 1.0, 10.0, 100.0)
"""What is tried, the simplest model first: of equals the first wins."""
DEFAULT_C = 10.0
"""What is taken where val cannot tell."""
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


@dataclass(frozen=True, slots=True)
class Tried:
    """One C and what it reaches on val; AUROC is told, and decides nothing."""

    C: float
    log_loss: float | None
    auroc: float | None


@dataclass(frozen=True, slots=True)
class Strength:
    """The C that was chosen, all that were tried, and why it is what it is."""

    C: float
    tried: tuple[Tried, ...]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """What is written of the choice."""
        return {"grid": [asdict(one) for one in self.tried], "settings_reason": self.reason}


def undecided(labels: Sequence[int]) -> Strength | None:
    """The default, and why, where val cannot choose by its gold labels; None where it can."""
    if len(set(labels)) == 2:
        return None
    why = f"all {len(labels)} rows of val are {'positive' if labels[0] else 'negative'}" if labels else ""
    return Strength(
        DEFAULT_C, (), f"C {DEFAULT_C:g} by default: {why or 'val has no rows'}, so it cannot choose"
    )


def choose_strength(on_val: Mapping[float, Predictions]) -> Strength:
    """Return the C with the smallest log loss on val, where all have scored the same rows, of both classes.

    Log loss is a proper score: it asks for probabilities that are right and not only in the right order, it
    moves with every row, and it is a column of the table that has the baseline. AUROC ignores how far apart
    the scores are, which is most of what C changes, and near its ceiling or with a few dozen positives it
    depends on single pairs of rows or ties. Class weights are not tried: they move the intercept more than
    anything else, which the threshold chosen on val compensates, and worsen the probabilities. `on_val` has
    the simplest model first, and of equals the first wins.
    """
    measured = {c: compute(rows, threshold=None) for c, rows in on_val.items()}
    tried = tuple(Tried(c, m["log_loss"], m["auroc"]) for c, m in measured.items())
    best = min(tried, key=lambda one: one.log_loss if one.log_loss is not None else float("inf"))
    rows = len(next(iter(on_val.values())))
    among = ", ".join(f"{c:g}" for c in on_val)
    return Strength(best.C, tried, f"the smallest log loss on {rows} rows of val, of C {among}")
