"""A student that answers: a bundle with its model in memory."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from core import jsonio, locations
from core.data import sources
from core.durable import user_cache, whole_folder
from core.engines import Device, Sampler
from core.errors import DataError, MissingInputError, ModelError, UserError
from core.evaluation.predictions import Predictions, optional
from core.evaluation.student_scores import ScoreSettings, score_texts
from core.export import Weights
from core.export.bundle import FILE, MERGED, Bundle, open_bundle, parse_contents
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
) -> Student:
    """Load a student, ready to be called with texts.

    Args:
        model: "latest" or a run's name, published under `root`, or a bundle's folder or fsspec URL.
        root: Where published runs are.
        weights: The adapter over its base model, the bundle's merged weights, or those on the server that
            trained them.
        base: Where the base model is, if not where it was in training.
        device: auto, cpu or cuda.
        threads: CPU threads; by default torch's own choice.

    Raises MissingInputError if the bundle does not exist, ModelError where it does not match.
    """
    folder = find(model, root, merged=weights == "merged")
    return open_student(folder, weights, base, Device(device, threads))


def open_student(folder: Path, weights: Weights, base: str | None, device: Device) -> Student:
    """As `load`, of a bundle in a local folder. Raises ModelError where it does not match."""
    bundle = open_bundle(folder)
    return Student(bundle, bundle.sampler(weights, base, device))


class Student:
    """Answers texts; one caller at a time, others wait. Close it, or use it in a `with`."""

    def __init__(self, bundle: Bundle, sampler: Sampler) -> None:
        self.bundle, self._sampler = bundle, sampler
        self._one_at_a_time = threading.Lock()
        if bundle.decision.threshold is None:
            log.warning("the student has no threshold, so no label is given: %s", bundle.decision.reason)

    def __call__(
        self, texts: Sequence[str], *, reasoning: bool = False, progress: Progress | None = None
    ) -> list[Prediction]:
        """A prediction for each text, in order.

        With `reasoning` the student's words are generated too, which takes far longer; a student that
        reasons before it answers always does. Raises UserError for one that learned only labels.
        """
        if isinstance(texts, str):  # a sequence of its characters
            raise UserError("texts is one text; put it in a list")
        encoder = self.bundle.encoder
        if reasoning and encoder.target == "label_only":
            raise UserError("this student learned only labels and gives no reasoning; leave it out")
        ids = [str(i) for i in range(len(texts))]
        settings = ScoreSettings(
            self.bundle.contents.max_new_tokens, reasoning_rows=len(texts) if reasoning else 0
        )
        with self._one_at_a_time:
            scored = score_texts(self._sampler, encoder, ids, texts, settings, progress or Silent())
        return self.predictions(scored, reasoning=reasoning)

    def predictions(self, scored: Predictions, *, reasoning: bool) -> list[Prediction]:
        """Decide scored texts, with their reasoning if `reasoning` is set."""
        contents, decision = self.bundle.contents, self.bundle.decision
        labels = LabelSet.binary(contents.labels.positive, contents.labels.negative)
        probability, predicted = decision.calibrated(scored).probability, decision.predicted(scored)
        errors, found = list(scored.errors), []
        for i in np.flatnonzero(scored.invalid & ~scored.failed):
            if np.isnan(scored.probability[i]):
                within = f"within {contents.max_new_tokens} tokens"
                errors[i] = f"no label was reached {within}, which is taken for the negative class"
            else:
                off_label = f"{scored.off_label_mass[i]:.1%} of the probability is on neither label"
                errors[i] = f"{off_label}; evaluations count such a row as invalid"
        for at, generated in enumerate(scored.generated):
            label = None
            if predicted is not None and scored.errors[at] is None:
                label = labels.written(int(predicted[at]))
            reasons = generated.reasoning if reasoning else None
            rules = cited(reasons, contents.rule_ids) if reasons else []
            prediction = Prediction(
                label=label,
                probability=optional(probability[at]),
                threshold=decision.threshold,
                reasoning=reasons,
                rules=tuple(dict.fromkeys(rule for rule in rules if rule in contents.rule_ids)),
                error=errors[at],
                cut_tokens=int(scored.truncated_tokens[at]),
            )
            found.append(prediction)
        return found

    def close(self) -> None:
        """Let the model go."""
        self._sampler.close()

    def __enter__(self) -> Student:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
