"""A published model that answers: a bundle of a student or of a baseline, in memory."""

from __future__ import annotations

import hashlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock

from core import jsonio, locations
from core.data import sources
from core.durable import user_cache, whole_folder
from core.engines import Device, Sampler
from core.errors import DataError, MissingInputError, ModelError, UserError
from core.evaluation.decision import Decision
from core.evaluation.embeddings import Encoder
from core.evaluation.predictions import Predictions, optional
from core.evaluation.student_scores import ScoreSettings, score_texts
from core.export import Weights
from core.export.bundle import FILE, MERGED, BaselineBundle, Bundle, Labels, open_any, parse_contents
from core.export.stage import BUNDLE
from core.progress import Progress, Silent
from core.records import LabelSet
from core.rulebook import cited
from core.store import Store, pointers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The student's answer to one text.

    `label` is the class's first name in the training data, None where nothing could be decided;
    `probability` that of the positive class, calibrated; `threshold` where it is called positive from.
    `rules` are the ids that the reasoning cites and the rulebook has. `cut_tokens` are the text's that did
    not fit into the prompt.

    `error` is why a text has no label, or why its label cannot be trusted: a row that evaluations count as
    invalid (more than half of the probability is on neither label) has its label and probability, which
    evaluations use too, and an error.
    """

    label: str | None
    probability: float | None
    threshold: float | None
    reasoning: str | None = None
    rules: tuple[str, ...] = ()
    error: str | None = None
    cut_tokens: int = 0


def load(
    model: str = "latest",
    root: str = "artifacts",
    *,
    weights: Weights = "adapter",
    base: str | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> LoadedModel:
    """Load a published model, ready to be called with texts.

    Args:
        model: "latest" or a run's name, published under `root`, or a bundle's folder or fsspec URL.
        root: Where published runs are.
        weights: The adapter over its base model, the bundle's merged weights, or those on the server that
            trained them. A baseline has its own only.
        base: Where the base model, or a baseline's encoder, is, if not where it was in training.
        device: auto, cpu or cuda.
        threads: CPU threads; by default torch's own choice.

    Raises MissingInputError if the bundle does not exist, ModelError where it does not match.
    """
    folder = find(model, root, merged=weights == "merged")
    return open_model(folder, weights, base, Device(device, threads))


def open_model(folder: Path, weights: Weights, base: str | None, device: Device) -> LoadedModel:
    """As `load`, of a bundle in a local folder. Raises ModelError where it does not match."""
    bundle = open_any(folder)
    if isinstance(bundle, BaselineBundle):
        return LoadedBaseline(bundle, base)
    return Student(bundle, bundle.sampler(weights, base, device))


class LoadedModel(ABC):
    """Answers texts; one caller at a time, others wait. Close it, or use it in a `with`."""

    rule_ids: tuple[str, ...] = ()
    """The rules that its reasoning may cite."""

    def __init__(self, labels: Labels, decision: Decision) -> None:
        self.labels, self.decision = LabelSet.binary(labels.positive, labels.negative), decision
        self._one_at_a_time = threading.Lock()
        if decision.threshold is None:
            log.warning("the model has no threshold, so no label is given: %s", decision.reason)

    def __call__(
        self, texts: Sequence[str], *, reasoning: bool = False, progress: Progress | None = None
    ) -> list[Prediction]:
        """A prediction for each text, in order.

        With `reasoning` a student's words are generated too, which takes far longer; a student that reasons
        before it answers always does. Raises UserError for a model that gives no reasoning.
        """
        if isinstance(texts, str):  # a sequence of its characters
            raise UserError("texts is one text; put it in a list")
        with self._one_at_a_time:
            scored = self.score(texts, reasoning=reasoning, progress=progress or Silent())
        return self.predictions(scored, reasoning=reasoning)

    @abstractmethod
    def score(self, texts: Sequence[str], *, reasoning: bool, progress: Progress) -> Predictions:
        """Return the probability of the positive class of each text, before calibration."""

    def invalid(self, scored: Predictions, row: int) -> str:
        """Return why evaluations count a row as invalid."""
        share = f"{scored.off_label_mass[row]:.1%} of the probability is on neither label"
        return f"{share}; evaluations count such a row as invalid"

    def predictions(self, scored: Predictions, *, reasoning: bool) -> list[Prediction]:
        """Decide scored texts, with their reasoning if `reasoning` is set."""
        probability = self.decision.calibrated(scored).probability
        predicted = self.decision.predicted(scored)
        errors, found = list(scored.errors), []
        for i in np.flatnonzero(scored.invalid & ~scored.failed):
            errors[i] = self.invalid(scored, int(i))
        for at, generated in enumerate(scored.generated):
            label = None
            if predicted is not None and scored.errors[at] is None:
                label = self.labels.written(int(predicted[at]))
            reasons = generated.reasoning if reasoning else None
            rules = cited(reasons, self.rule_ids) if reasons else []
            prediction = Prediction(
                label=label,
                probability=optional(probability[at]),
                threshold=self.decision.threshold,
                reasoning=reasons,
                rules=tuple(dict.fromkeys(rule for rule in rules if rule in self.rule_ids)),
                error=errors[at],
                cut_tokens=int(scored.truncated_tokens[at]),
            )
            found.append(prediction)
        return found

    @abstractmethod
    def close(self) -> None:
        """Let the model go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Student(LoadedModel):
    """A student: a language model that answers with a label, and with reasons if it learned them."""

    def __init__(self, bundle: Bundle, sampler: Sampler) -> None:
        super().__init__(bundle.contents.labels, bundle.decision)
        self.bundle, self.rule_ids, self._sampler = bundle, bundle.contents.rule_ids, sampler

    def score(self, texts: Sequence[str], *, reasoning: bool, progress: Progress) -> Predictions:
        encoder = self.bundle.encoder
        if reasoning and encoder.target == "label_only":
            raise UserError("this student learned only labels and gives no reasoning; leave it out")
        ids = [str(i) for i in range(len(texts))]
        settings = ScoreSettings(
            self.bundle.contents.max_new_tokens, reasoning_rows=len(texts) if reasoning else 0
        )
        return score_texts(self._sampler, encoder, ids, texts, settings, progress)

    def invalid(self, scored: Predictions, row: int) -> str:
        if not np.isnan(scored.probability[row]):
            return super().invalid(scored, row)
        within = f"within {self.bundle.contents.max_new_tokens} tokens"
        return f"no label was reached {within}, which is taken for the negative class"

    def close(self) -> None:
        self._sampler.close()


class LoadedBaseline(LoadedModel):
    """A regression on TF-IDF, on embeddings or on both."""

    def __init__(self, bundle: BaselineBundle, encoder: str | None = None) -> None:
        """`encoder` is where its encoder is, by default where it was. Raises ModelError for another one."""
        super().__init__(bundle.contents.labels, bundle.decision)
        source = bundle.encoder(encoder)
        self.bundle, self._encoder = bundle, None if source is None else Encoder(source)

    def score(self, texts: Sequence[str], *, reasoning: bool, progress: Progress) -> Predictions:
        if reasoning:
            raise UserError(f"{self.bundle.contents.title} gives no reasoning; leave it out")
        vectors = None if self._encoder is None else self._encoder.encode(texts, progress)
        found = self.bundle.model.probability(texts, vectors)
        progress.update(len(texts), len(texts))
        return Predictions.of([str(i) for i in range(len(texts))], found)

    def close(self) -> None:
        pass


def find(model: str, root: str = "artifacts", *, merged: bool = False) -> Path:
    """Return a local folder with the bundle.

    `model` is "latest" or a run's name, published under `root`, or else a folder or an fsspec URL; of a URL
    a copy is kept in the user's cache, its merged weights only with `merged`. Raises MissingInputError and
    ModelError.
    """
    found = locations.normalized(model, "--model")
    if locations.scheme(found):
        return _cached_copy(found.rstrip("/"), merged=merged)
    folder, is_path = Path(found), "/" in model or "\\" in model
    if folder.is_dir() and (is_path or (folder / FILE).is_file()):
        return folder.absolute()
    if is_path:
        raise MissingInputError(f"folder {folder.absolute()}, the place of the bundle, does not exist")
    return _find_published(Store.at(root), model)


def _find_published(store: Store, name: str) -> Path:
    pointer = pointers.read(store, name)
    if pointer is None:
        there = ", ".join(pointers.names(store)) or "nothing is published there"
        raise MissingInputError(
            f"no model {name} is published under {store.backend.url} ({there}): name one, or a bundle's "
            "folder"
        )
    path = pointer.get("bundle_path")
    parts = path.split("/") if isinstance(path, str) else []
    if len(parts) != 5:
        raise MissingInputError(
            f"model/{name}.json names no bundle: it was published by an earlier version; run the same config "
            "again, which reuses its stages and writes one"
        )
    manifest = store.sound(parts[1], parts[2])
    if manifest is None:
        raise MissingInputError(
            f"the bundle model/{name}.json names is missing or damaged ({store.where('/'.join(parts))}): "
            "run the same config again, which builds it again"
        )
    return store.folder(manifest) / BUNDLE


def _cached_copy(url: str, *, merged: bool) -> Path:
    """Copy a bundle into the user's cache, whole or not at all, and return its folder there."""
    try:
        written = sources.read_bytes(f"{url}/{FILE}")
    except DataError as e:
        raise MissingInputError(f"{url} is not a bundle that can be read: {e}") from e
    files = parse_contents(written, f"{url}/{FILE}").files
    fs, path = sources.filesystem(url)
    name = hashlib.sha256(written).hexdigest()[:16] + ("-merged" if merged else "")
    final = user_cache() / "bundles" / name
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{final}.lock"):
        if not final.is_dir():
            with whole_folder(final) as part:
                (part / FILE).write_bytes(written)
                for each in (n for n in files if merged or not n.startswith(f"{MERGED}/")):
                    _fetch(fs, f"{path}/{each}", f"{url}/{each}", part / each, files[each])
    return final


def _fetch(fs: Any, path: str, url: str, to: Path, digest: str) -> None:
    """Copy one file of a bundle. A damaged one is refused here, since the cache would keep it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with sources.explained(url):
        try:
            fs.get_file(path, str(to))
        except FileNotFoundError:
            raise ModelError(f"{url} is missing: the bundle is not whole; copy it there again") from None
    if jsonio.file_digest(to) != digest:
        raise ModelError(f"{url} was altered: its sha256 is not the one in {FILE}; copy it there again")
