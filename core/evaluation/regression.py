"""Logistic regression on TF-IDF, on sentence embeddings or on both: fitted, applied, written and read.

The probability of a text is 1 / (1 + exp(-(x . coefficients + intercept))), where x holds its TF-IDF values
and then its embedding. Evaluations and a published baseline compute it by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import jsonio
from core.errors import ModelError
from core.evaluation.embeddings import Vectors
from core.evaluation.predictions import Floats
from core.jsonio import InvalidFile, Record

_MODEL, _WEIGHTS = FILES = ("model.json", "weights.safetensors")


def new_vectorizer(settings: Mapping[str, Any], vocabulary: Mapping[str, int] | None = None) -> Any:
    """Return scikit-learn's TfidfVectorizer with these settings; ranges may be lists, as JSON has them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return TfidfVectorizer(**given, vocabulary=vocabulary)


def features(tfidf: Any, texts: Sequence[str], vectors: Vectors | None) -> Any:
    """Return the features of texts, of shape (texts, features), by a fitted TF-IDF, embeddings or both."""
    return with_embeddings(None if tfidf is None else tfidf.transform(texts), vectors)


def with_embeddings(counted: Any, vectors: Vectors | None) -> Any:
    """Return TF-IDF values, embeddings, or both side by side."""
    from scipy.sparse import hstack

    if counted is None or vectors is None:
        return vectors if counted is None else counted
    return hstack([counted, vectors], format="csr")


class _Model(Record):
    """The content of model.json."""

    tfidf: dict[str, Any] | None
    """Settings of TfidfVectorizer; None for a regression on embeddings alone."""
    terms: tuple[str, ...]
    """In the order of their coefficients."""
    dimensions: int
    """Of the embeddings; 0 without them."""


@dataclass(frozen=True, slots=True)
class Regression:
    """A fitted regression."""

    settings: Mapping[str, Any] | None
    """Settings of TfidfVectorizer."""
    tfidf: Any
    """The fitted TfidfVectorizer; None for a regression on embeddings alone."""
    coefficients: Floats
    intercept: float

    @property
    def dimensions(self) -> int:
        """How many features are an embedding's."""
        return len(self.coefficients) - (0 if self.tfidf is None else len(self.tfidf.idf_))

    def applied(self, found: Any) -> Floats:
        """Return the probability of the positive class by features, of shape (texts,)."""
        from scipy.special import expit

        return np.asarray(expit(found @ self.coefficients + self.intercept), np.float64)

    def probability(self, texts: Sequence[str], vectors: Vectors | None = None) -> Floats:
        """Return the probability of the positive class of each text, of shape (texts,)."""
        return self.applied(features(self.tfidf, texts, vectors)) if texts else np.empty(0)

    def write(self, folder: Path) -> None:
        """Write terms as JSON and weights as safetensors, which `read` loads without executing anything."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {"coefficients": self.coefficients, "intercept": np.array([self.intercept])}
        terms: list[str] = []
        if self.tfidf is not None:
            weights["inverse_document_frequencies"] = np.asarray(self.tfidf.idf_, np.float64)
            terms = [str(term) for term in self.tfidf.get_feature_names_out()]
        about = {"tfidf": self.settings, "terms": terms, "dimensions": self.dimensions}
        jsonio.write_json(folder / _MODEL, about)
        save_file(weights, folder / _WEIGHTS)

    @classmethod
    def read(cls, folder: Path) -> Regression:
        """Read the output of `write`. Raises ModelError if a file is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            about = _Model.from_json(jsonio.read_json(folder / _MODEL), str(folder / _MODEL))
            weights = load_file(folder / _WEIGHTS)
            coefficients, intercept = weights["coefficients"], float(weights["intercept"][0])
            tfidf = None
            if about.tfidf is not None:
                tfidf = new_vectorizer(about.tfidf, {term: place for place, term in enumerate(about.terms)})
                tfidf.idf_ = weights["inverse_document_frequencies"]
            if len(coefficients) != len(about.terms) + about.dimensions:
                raise ValueError(f"{len(coefficients)} coefficients for {len(about.terms)} terms")
        except (OSError, ValueError, KeyError, InvalidFile, SafetensorError) as error:
            raise ModelError(f"the model in {folder} is damaged ({error}): publish it again") from error
        return cls(about.tfidf, tfidf, coefficients, intercept)
