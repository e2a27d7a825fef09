"""A student that answers: a bundle with its model in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from core.bundle import Weights
from core.bundle.opening import Bundle, open_bundle
from core.engines.base import Device
from core.engines.sampling import Sampler
from core.errors import UserError
from core.evaluation.predictions import Predictions, optional
from core.evaluation.scoring import ScoreSettings, score_texts
from core.predict.finding import find
from core.progress import Progress, Silent
from core.rejection.cited import cited

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the student says of one text.

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

    Raises MissingInputError where there is no such bundle, ModelError where it does not match.
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
        reasons before it answers always does. Raises UserError for one that learnt labels alone.
        """
        encoder = self.bundle.encoder
        if reasoning and encoder.target == "label_only":
            raise UserError("this student learnt labels alone and gives no reasoning; leave it out")
        ids = [str(i) for i in range(len(texts))]
        settings = ScoreSettings(
            self.bundle.contents.max_new_tokens, reasoning_rows=len(texts) if reasoning else 0
        )
        with self._one_at_a_time:
            scored = score_texts(self._sampler, encoder, ids, texts, settings, progress or Silent())
        return self._predictions(scored, reasoning=reasoning)

    def _predictions(self, scored: Predictions, *, reasoning: bool) -> list[Prediction]:
        contents, decision = self.bundle.contents, self.bundle.decision
        labels = contents.label_set
        probability, predicted = decision.calibrated(scored).probability, decision.predicted(scored)
        errors = self._errors(scored)
        found = []
        for i, generated in enumerate(scored.generated):
            label = None
            if predicted is not None and scored.errors[i] is None:
                label = labels.written(int(predicted[i]))
            said = generated.reasoning if reasoning else None
            rules = cited(said, contents.rule_ids) if said else []
            found.append(
                Prediction(
                    label=label,
                    probability=optional(probability[i]),
                    threshold=decision.threshold,
                    reasoning=said,
                    rules=tuple(dict.fromkeys(rule for rule in rules if rule in contents.rule_ids)),
                    error=errors[i],
                    cut_tokens=int(scored.truncated_tokens[i]),
                )
            )
        return found

    def _errors(self, scored: Predictions) -> list[str | None]:
        """Why each row has no label, or why evaluations count it as invalid; None for a valid one."""
        tokens = self.bundle.contents.max_new_tokens
        unreached = f"no label was reached within {tokens} tokens, which is taken for the negative class"
        errors = list(scored.errors)
        for i in np.flatnonzero(scored.invalid & ~scored.failed):
            off_label = f"{scored.off_label_mass[i]:.1%} of the probability is on neither label"
            has_none = np.isnan(scored.probability[i])
            errors[i] = unreached if has_none else f"{off_label}; evaluations count such a row as invalid"
        return errors

    def close(self) -> None:
        """Let the model go."""
        self._sampler.close()

    def __enter__(self) -> Student:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
