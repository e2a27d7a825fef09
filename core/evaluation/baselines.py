"""The baselines that cost little to train: the majority class, and logistic regression on fixed features.

The features are TF-IDF of words or characters, frozen sentence embeddings, or both. All learn from the gold
labels of every train row. Range of n-grams and regularization are chosen on val, and thresholds are decided
as for every scorer (core.evaluation.decision).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core import jsonio
from core.config import ConfigSection
from core.errors import CLASSICAL, DataError, Part, separable
from core.evaluation.embeddings import Embeddings, read_embeddings
from core.evaluation.metrics import compute
from core.evaluation.predictions import Floats, Predictions
from core.evaluation.regression import Regression, features, new_vectorizer, with_embeddings
from core.records import SPLITS, Example, SplitName, read_examples
from core.stage import StageIO, stage

MODELS = "models"
"""The folder of the fitted regressions, by name."""
MAX_ITER = 2000
GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""The values of C that are tried, the simplest model first."""
DEFAULT_C = 10.0
"""C where val cannot choose."""
_WORDS = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b", "sublinear_tf": True}
_CHARACTERS = tuple(
    {"analyzer": "char_wb", "ngram_range": (2, longest), "sublinear_tf": True} for longest in (4, 5)
)
TFIDF: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "tfidf_words": (_WORDS,),
    "tfidf_chars": _CHARACTERS,
    "embedding": (),
    "embedding_tfidf": _CHARACTERS,
}
"""The settings of TF-IDF that are tried for each regression, the fewest features first."""
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
    model: Regression | None = None
    """None for the majority."""

    def to_json(self) -> dict[str, Any]:
        """Return what is written of it: everything but the scores of each row."""
        return {
            "title": str(CLASSICAL[self.name]),
            "trained_on": "gold labels of all train rows",
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in self.settings.items()},
            **self.chosen,
        }


def fit(
    name: str,
    train: Sequence[Example],
    splits: Mapping[SplitName, Sequence[Example]],
    embeddings: Embeddings | None = None,
) -> Baseline:
    """Fit one baseline of CLASSICAL.

    The majority gives every row train's share of positives, so that at 0.5 it predicts train's larger class.
    Regressions are chosen on `splits["val"]` by log loss. `embeddings` has the vectors of train and of the
    splits, of shape (rows, dimensions). Raises DataError if these rows make the baseline impossible: train is
    empty, or for a regression has one class, or no text with a term to count.
    """
    if not train:
        raise DataError(f"{CLASSICAL[name]}: the train split has no rows")
    if name != "majority":
        return _fit_regression(name, train, splits, embeddings if name.startswith("embedding") else None)
    share = sum(e.label for e in train) / len(train)
    scored = {split: _scored(rows, np.full(len(rows), share)) for split, rows in splits.items()}
    return Baseline(name, {"share_positive": share}, scored)


def _fit_regression(
    name: str,
    train: Sequence[Example],
    splits: Mapping[SplitName, Sequence[Example]],
    embeddings: Embeddings | None,
) -> Baseline:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    labels, val = [e.label for e in train], [e.label for e in splits.get("val", ())]
    if sum(labels) in (0, len(train)):
        raise DataError(
            f"{CLASSICAL[name]}: the train split has {len(train)} rows and {sum(labels)} positive ones; "
            "a regression needs both classes in train"
        )
    chooses = len(set(val)) == 2
    tried: list[tuple[Candidate, Regression, dict[SplitName, Predictions]]] = []
    for settings in (TFIDF[name] if chooses else TFIDF[name][:1]) or (None,):
        tfidf, of_train = _fit_features(name, settings, train, embeddings)
        counted = {
            split: of_train
            if split == "train" and rows is train
            else features(tfidf, [e.text for e in rows], None if embeddings is None else embeddings[split])
            for split, rows in splits.items()
            if rows
        }
        for c in GRID if chooses else (DEFAULT_C,):
            with threadpool_limits(1):  # products this small take 20 times longer on two threads
                fitted = LogisticRegression(C=c, max_iter=MAX_ITER).fit(of_train, labels)
            model = Regression(settings, tfidf, fitted.coef_[0], float(fitted.intercept_[0]))
            scored = {
                split: _scored(rows, model.applied(counted[split]) if rows else np.empty(0))
                for split, rows in splits.items()
            }
            tried.append((Candidate(c, settings), model, scored))
    if chooses:
        best, chosen = choose([(candidate, scored["val"]) for candidate, _, scored in tried])
    else:
        why = f"all {len(val)} rows of val are {'positive' if val[0] else 'negative'}" if val else ""
        reason = f"C {DEFAULT_C:g} by default: {why or 'val has no rows'}, so it cannot choose"
        best, chosen = 0, {"grid": [], "settings_reason": reason}
    candidate, model, scored = tried[best]
    used = {**(candidate.tfidf or {}), "C": candidate.c, "max_iter": MAX_ITER}
    return Baseline(name, used, scored, chosen, model)


def _fit_features(
    name: str, settings: Mapping[str, Any] | None, train: Sequence[Example], embeddings: Embeddings | None
) -> tuple[Any, Any]:
    """Return TF-IDF fitted on train, None if `settings` is None, and the features of train."""
    vectors = None if embeddings is None else embeddings["train"]
    if settings is None:
        return None, vectors
    tfidf = new_vectorizer(settings)
    analyze = tfidf.build_analyzer()
    if not any(analyze(e.text) for e in train):
        raise DataError(f"{CLASSICAL[name]}: no text of train contains anything to count")
    return tfidf, with_embeddings(tfidf.fit_transform([e.text for e in train]), vectors)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A regression that is tried: its regularization, and the settings of TF-IDF if it counts terms."""

    c: float
    tfidf: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return how baselines.json names it."""
        return {"C": self.c, **({"ngram_range": list(self.tfidf["ngram_range"])} if self.tfidf else {})}


def choose(on_val: Sequence[tuple[Candidate, Predictions]]) -> tuple[int, dict[str, Any]]:
    """Return the index of the smallest log loss on val, the first of equals, and the record of all tried.

    Log loss, a proper score, moves with every row; AUROC ignores how far apart the scores are, which is most
    of what C changes. Class weights are not tried: the threshold compensates the intercept.
    """
    measured = [(candidate, compute(rows, threshold=None)) for candidate, rows in on_val]
    grid = [{**each.to_json(), "log_loss": m["log_loss"], "auroc": m["auroc"]} for each, m in measured]
    best = min(range(len(grid)), key=lambda i: grid[i]["log_loss"] or 0.0)
    among = ", ".join(f"{c:g}" for c in dict.fromkeys(each.c for each, _ in on_val))
    ranges = list(dict.fromkeys(tuple(each.tfidf["ngram_range"]) for each, _ in on_val if each.tfidf))
    of = f", and n-grams of {' or '.join(f'{a} to {b}' for a, b in ranges)}" if len(ranges) > 1 else ""
    why = f"the smallest log loss on {len(on_val[0][1])} rows of val, of C {among}{of}"
    return best, {"grid": grid, "settings_reason": why}


def _scored(examples: Sequence[Example], p: Floats) -> Predictions:
    return Predictions.of([e.id for e in examples], p, gold=[e.label for e in examples])


class BaselineSettings(ConfigSection):
    """The baselines have no settings in the config: theirs are fixed, or chosen on val."""

    seed: int
    without: tuple[Part, ...] = ()
    """Baselines that failed and are left out."""


@stage(
    "baseline",
    version=6,
    inputs=("split", "embed?"),
    switch="export",
    shows="baseline_phase/baselines.json",
)
def baseline(settings: BaselineSettings, io: StageIO) -> dict[str, Any]:
    """Fit on train, choose on val, score all splits; return the C of each baseline that has one.

    Those on embeddings need the input `embed`. A baseline that these rows make impossible has its reason in
    baselines.json and no scores. Raises PartFailed, naming the baseline, if one failed for another reason.
    """
    splits = {name: read_examples(io.input("split") / f"{name}.csv") for name in SPLITS}
    embedded = io.optional("embed")
    embeddings = None if embedded is None else read_embeddings(embedded)
    about: dict[str, Any] = {}
    chosen = {}
    for name, part in CLASSICAL.items():
        if part in settings.without or (embeddings is None and name.startswith("embedding")):
            continue
        with separable(part):
            try:
                fitted = fit(name, splits["train"], splits, embeddings)
            except DataError as e:
                about[name] = {"title": str(part), IMPOSSIBLE: str(e).removeprefix(f"{part}: ")}
                continue
        about[name] = fitted.to_json()
        for split, rows in fitted.scored.items():
            rows.write(io.out / f"{name}_{split}.jsonl")
        if fitted.model is not None:
            fitted.model.write(io.out / MODELS / name)
        if "C" in fitted.settings:
            chosen[name] = fitted.settings["C"]
    jsonio.write_json(io.out / "baselines.json", about)
    return chosen
