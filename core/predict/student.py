"""A student that answers: a bundle with its model in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from core.bundle.contents import Weights
from core.bundle.opening import Bundle, Device, open_bundle
from core.errors import UserError
from core.evaluation.columns import predict
from core.evaluation.scoring import ScoreSettings, score_examples
from core.predict.finding import find
from core.progress import Progress, Silent
from core.records import Example, ScoredExample
from core.rejection.cited import cited
from core.student.engine import Sampler

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
        examples = [Example(str(i), text, 0) for i, text in enumerate(texts)]
        settings = ScoreSettings(
            self.bundle.contents.max_new_tokens, reasoning_rows=len(examples) if reasoning else 0
        )
        with self._one_at_a_time:
            rows = score_examples(self._sampler, encoder, examples, settings, progress or Silent())
        calibrated = self.bundle.decision.calibrator.apply_to(rows)
        return [self._prediction(row, reasoning=reasoning) for row in calibrated]

    def _prediction(self, row: ScoredExample, *, reasoning: bool) -> Prediction:
        contents, threshold = self.bundle.contents, self.bundle.decision.threshold
        label = None
        if row.error is None and threshold is not None:
            names = contents.labels
            label = (names.positive if predict(row.probability, threshold) else names.negative)[0]
        said = row.reasoning if reasoning else None
        rules = [rule for rule in cited(said, contents.rule_ids) if rule in contents.rule_ids] if said else []
        return Prediction(
            label=label,
            probability=row.probability,
            threshold=threshold,
            reasoning=said,
            rules=tuple(dict.fromkeys(rules)),
            error=row.error or self._invalid(row),
            cut_tokens=row.truncated_tokens,
        )

    def _invalid(self, row: ScoredExample) -> str | None:
        """Why evaluations count a row as invalid though nothing failed; None where they do not."""
        if row.probability is None:
            tokens = self.bundle.contents.max_new_tokens
            return f"no label was reached within {tokens} tokens, which is taken for the negative class"
        if row.valid:
            return None
        off = f"{row.outside:.1%} of the probability is on neither label"
        return f"{off}; evaluations count such a row as invalid"

    def close(self) -> None:
        """Let the model go."""
        self._sampler.close()

    def __enter__(self) -> Student:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
