"""The baselines that cost nothing to train: the majority class, and logistic regression on TF-IDF.

All learn from the gold labels of every train row. The features are fixed, the regularization is chosen on
val, and thresholds are decided as for every scorer (core.evaluation.decision).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core import jsonio
from core.config import ConfigSection
from core.errors import CLASSICAL, DataError, Part, separable
from core.evaluation.metrics import compute
from core.evaluation.predictions import Floats, Predictions
from core.records import SPLITS, Example, SplitName, read_examples
from core.stage import StageIO, stage

MAX_ITER = 1000
GRID = (0.1, 1.0, 10.0, 100.0)
"""The values of C that are tried, the simplest model first."""
DEFAULT_C = 10.0
"""C where val cannot choose."""
FEATURES: Mapping[str, Mapping[str, Any]] = {
    "tfidf_words": {"analyzer": "word", "ngram_range": (1, 2), "sublinear_tf": True},
    "tfidf_chars": {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True},
}
IMPOSSIBLE = "impossible"
"""The field of baselines.json with the reason why these rows make a baseline impossible."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted baseline with its settings, why they were chosen, and its predictions of each split."""

    name: str
    settings: Mapping[str, Any]
    scored: Mapping[SplitName, Predictions]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What was tried on val, and the reason for the settings; empty if nothing is chosen."""

    def to_json(self) -> dict[str, Any]:
        """Return what is written of it: everything but the scores of each row."""
        return {
            "title": str(CLASSICAL[self.name]),
            "trained_on": "gold labels of all train rows",
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in self.settings.items()},
            **self.chosen,
        }


def fit(name: str, train: Sequence[Example], splits: Mapping[SplitName, Sequence[Example]]) -> Baseline:
    """Fit one baseline of CLASSICAL.

    The majority gives every row train's share of positives, so that at 0.5 it predicts train's larger class.
    C of a regression is chosen on `splits["val"]` by log loss. Raises DataError if these rows make it
    impossible: train is empty, or for a regression has one class, or no text with a term to count.
    """
    if not train:
        raise DataError(f"{CLASSICAL[name]}: the train split has no rows")
    if name != "majority":
        return _fit_regression(name, train, splits)
    share = sum(e.label for e in train) / len(train)
    scored = {split: _scored(rows, np.full(len(rows), share)) for split, rows in splits.items()}
    return Baseline(name, {"share_positive": share}, scored)


def _fit_regression(
    name: str, train: Sequence[Example], splits: Mapping[SplitName, Sequence[Example]]
) -> Baseline:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    title, features, labels = CLASSICAL[name], FEATURES[name], [e.label for e in train]
    if sum(labels) in (0, len(train)):
        raise DataError(
            f"{title}: the train split has {len(train)} rows and {sum(labels)} positive ones; "
            "a regression needs both classes in train"
        )
    tfidf = TfidfVectorizer(**features)
    analyze = tfidf.build_analyzer()
    if not any(analyze(e.text) for e in train):
        raise DataError(f"{title}: no text of train contains anything to count")
    of_train = tfidf.fit_transform([e.text for e in train])
    counted = {
        split: of_train if split == "train" and rows is train else tfidf.transform([e.text for e in rows])
        for split, rows in splits.items()
        if rows
    }
    val = [e.label for e in splits.get("val", ())]
    chooses = len(set(val)) == 2
    fitted = {
        c: LogisticRegression(C=c, max_iter=MAX_ITER).fit(of_train, labels)
        for c in (GRID if chooses else (DEFAULT_C,))
    }

    def scored(c: float, split: SplitName) -> Predictions:
        p = fitted[c].predict_proba(counted[split])[:, 1] if split in counted else np.empty(0)
        return _scored(splits[split], p)

    if chooses:
        best, chosen = choose_c({c: scored(c, "val") for c in GRID})
    else:
        why = f"all {len(val)} rows of val are {'positive' if val[0] else 'negative'}" if val else ""
        reason = f"C {DEFAULT_C:g} by default: {why or 'val has no rows'}, so it cannot choose"
        best, chosen = DEFAULT_C, {"grid": [], "settings_reason": reason}
    settings = {**features, "C": best, "max_iter": MAX_ITER}
    return Baseline(name, settings, {split: scored(best, split) for split in splits}, chosen)


def choose_c(on_val: Mapping[float, Predictions]) -> tuple[float, dict[str, Any]]:
    """Return the C with the smallest log loss on val, the first of equals, and the record of all tried.

    Log loss, a proper score, moves with every row; AUROC ignores how far apart the scores are, which is most
    of what C changes. Class weights are not tried: the threshold compensates the intercept.
    """
    measured = {c: compute(rows, threshold=None) for c, rows in on_val.items()}
    grid = [{"C": c, "log_loss": m["log_loss"], "auroc": m["auroc"]} for c, m in measured.items()]
    best = min(measured, key=lambda c: measured[c]["log_loss"] or 0.0)
    rows, among = len(next(iter(on_val.values()))), ", ".join(f"{c:g}" for c in on_val)
    why = f"the smallest log loss on {rows} rows of val, of C {among}"
    return best, {"grid": grid, "settings_reason": why}


def _scored(examples: Sequence[Example], p: Floats) -> Predictions:
    return Predictions.of([e.id for e in examples], p, gold=[e.label for e in examples])


class BaselineSettings(ConfigSection):
    """The baselines have no settings in the config: theirs are fixed, or chosen on val."""

    seed: int
    without: tuple[Part, ...] = ()
    """Baselines that failed and are left out."""


@stage("baseline", version=4, inputs=("split",), switch="export", shows="baseline_phase/baselines.json")
def baseline(settings: BaselineSettings, io: StageIO) -> dict[str, Any]:
    """Fit on train, choose C on val, score all splits; return the C of each baseline that has one.

    A baseline that these rows make impossible has its reason in baselines.json and no scores. Raises
    PartFailed with the name of a baseline that failed for another reason.
    """
    splits = {name: read_examples(io.input("split") / f"{name}.csv") for name in SPLITS}
    about: dict[str, Any] = {}
    chosen = {}
    for name, part in CLASSICAL.items():
        if part in settings.without:
            continue
        with separable(part):
            try:
                fitted = fit(name, splits["train"], splits)
            except DataError as e:
                about[name] = {"title": str(part), IMPOSSIBLE: str(e).removeprefix(f"{part}: ")}
                continue
        about[name] = fitted.to_json()
        for split, rows in fitted.scored.items():
            rows.write(io.out / f"{name}_{split}.jsonl")
        if "C" in fitted.settings:
            chosen[name] = fitted.settings["C"]
    jsonio.write_json(io.out / "baselines.json", about)
    return chosen
