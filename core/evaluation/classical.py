"""What costs nothing to train: the baselines that stand in the student's own table.

All learn from the gold labels of every train row, whatever the teacher answered and whatever was
rejected. Their settings are fixed below. They were settled once, by AUROC on the quickstart's val
rows, among words and pairs of words, ranges of characters, plain and sublinear counts, C of 1 and
10, with and without class weights; of equals the one with fewest features. They are not fitted to
the data at hand, and never to test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import DataError
from core.evaluation.columns import Floats
from core.evaluation.metrics import Metrics, compute
from core.evaluation.threshold import DEFAULT, Threshold, choose
from core.records import Example, ScoredExample, SplitName

REGRESSION = {"C": 10.0, "max_iter": 1000}
WORDS = {"analyzer": "word", "ngram_range": (1, 2), "sublinear_tf": True}
CHARACTERS = {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True}

Scorer = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True, slots=True)
class Baseline:
    """One baseline: how it was made, its threshold from val, and what it says of each split."""

    name: str
    title: str
    settings: Mapping[str, Any]
    threshold: Threshold
    scored: Mapping[SplitName, tuple[ScoredExample, ...]]
    metrics: Mapping[SplitName, Metrics]

    def to_json(self) -> dict[str, Any]:
        """What is written of it: everything but the scores of each row."""
        return {
            "title": self.title,
            "trained_on": "gold labels of all train rows",
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in self.settings.items()},
            "decision_threshold": self.threshold.value,
            "decision_threshold_reason": self.threshold.reason,
            "metrics": {split: m.to_json() for split, m in self.metrics.items()},
        }


def baselines(
    train: Sequence[Example], splits: Mapping[SplitName, Sequence[Example]]
) -> tuple[Baseline, ...]:
    """Majority, TF-IDF words and TF-IDF characters, fitted on `train`, measured on `splits`.

    The threshold of the two regressions is chosen on `splits["val"]` by the student's own rule.
    Raises DataError where train holds one class only, or no word at all.
    """
    positive = sum(e.label for e in train)
    if positive in (0, len(train)):
        raise DataError(
            f"the train split has {len(train)} rows and {positive} positive ones: "
            "a baseline, like the student, needs both classes in train"
        )
    return (
        _majority(positive / len(train), splits),
        _regression("tfidf_words", "TF-IDF words + logistic regression", WORDS, train, splits),
        _regression("tfidf_chars", "TF-IDF characters + logistic regression", CHARACTERS, train, splits),
    )


def _majority(share: float, splits: Mapping[SplitName, Sequence[Example]]) -> Baseline:
    """The share of positives in train as everyone's probability.

    Its threshold stays 0.5: chosen on val, it would say val's majority and not train's.
    """
    reason = f"{DEFAULT} by definition: the larger class of train, whose share of positives is {share:.3f}"
    return _measured(
        "majority",
        "Majority class of train",
        {"share_positive": share},
        lambda texts: np.full(len(texts), share),
        splits,
        Threshold(DEFAULT, None, None, 0, reason),
    )


def _regression(
    name: str,
    title: str,
    features: Mapping[str, Any],
    train: Sequence[Example],
    splits: Mapping[SplitName, Sequence[Example]],
) -> Baseline:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    model = Pipeline(
        [("tfidf", TfidfVectorizer(**features)), ("regression", LogisticRegression(**REGRESSION))]
    )
    try:
        model.fit([e.text for e in train], [e.label for e in train])
    except ValueError as error:  # scikit-learn's only word for texts without any term
        if "empty vocabulary" not in str(error):
            raise
        raise DataError(f"{title}: no text of train holds anything it could count") from error
    return _measured(
        name, title, {**features, **REGRESSION}, lambda texts: _probabilities(model, texts), splits, None
    )


def _probabilities(model: Any, texts: Sequence[str]) -> Floats:
    out: Floats = model.predict_proba(list(texts))[:, 1] if texts else np.zeros(0)
    return out


def _measured(
    name: str,
    title: str,
    settings: Mapping[str, Any],
    scorer: Scorer,
    splits: Mapping[SplitName, Sequence[Example]],
    threshold: Threshold | None,
) -> Baseline:
    scored = {split: _scored(examples, scorer) for split, examples in splits.items()}
    at = threshold or choose(scored.get("val", ()))
    metrics = {split: compute(rows, at.value) for split, rows in scored.items()}
    return Baseline(name, title, settings, at, scored, metrics)


def _scored(examples: Sequence[Example], scorer: Scorer) -> tuple[ScoredExample, ...]:
    p = scorer([e.text for e in examples])
    return tuple(
        ScoredExample(e.id, e.label, probability=float(q), outside=0.0, valid=True)
        for e, q in zip(examples, p, strict=True)
    )
