"""`{split}.json`: what the model predicts for each text, one record per line inside one JSON array.

A record has two labels, which may differ. `predicted` is the decision: the probability against the threshold.
`pred_label` is the model's own answer: read from the generated text, or, if none was generated, the more
probable label at the place where the model would write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core import jsonio
from core.errors import StageError
from core.evaluation.decision import Decision
from core.evaluation.predictions import Predictions, at_or_above, optional
from core.records import Example, SplitName

EVEN_ODDS = 0.5


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One record, with the fields of the file in their order.

    `probability` is calibrated, as the threshold is for calibrated ones. `predicted` is None without a
    threshold, and for a row that a server failed on. `raw_output` is None if no answer was generated.
    """

    sample_id: str
    example_id: str
    split: SplitName
    k_index: int
    text: str
    gold_label: int
    raw_output: str | None
    parse_ok: bool
    parse_source: Literal["generated", "scored"] | None
    pred_label: int | None
    reasoning: str | None
    error: str | None
    probability: float | None
    uncalibrated_probability: float | None
    threshold: float | None
    predicted: int | None
    outside_mass: float
    valid: bool
    truncated_tokens: int
    bounded: bool


def records(
    split: SplitName, examples: Sequence[Example], scored: Predictions, decision: Decision
) -> Iterator[PredictionRecord]:
    """Yield one record for each example, in order; `scored` are not calibrated.

    Raises StageError if examples and predictions do not match.
    """
    if len(examples) != len(scored):
        raise StageError(f"{split} has {len(examples)} examples but {len(scored)} were scored")
    calibrated, predicted = decision.calibrated(scored).probability, decision.predicted(scored)
    probable, invalid = at_or_above(scored.probability, EVEN_ODDS), scored.invalid
    for i, example in enumerate(examples):
        if example.id != scored.ids[i]:
            raise StageError(f"{split} row {i} is example {example.id}, but {scored.ids[i]} was scored")
        generated, error = scored.generated[i], scored.errors[i]
        own_label, parse_error = generated.label, error
        if generated.text is None:
            own_label = None if invalid[i] else int(probable[i])
        elif not generated.text.strip():
            parse_error = "empty_response"
        else:
            parse_error = "parse_failed" if own_label is None else None
        yield PredictionRecord(
            sample_id=f"{split}_{i}_k0",
            example_id=example.id,
            split=split,
            k_index=0,
            text=example.text,
            gold_label=example.label,
            raw_output=generated.text,
            parse_ok=own_label is not None,
            parse_source=None if own_label is None else "scored" if generated.text is None else "generated",
            pred_label=own_label,
            reasoning=generated.reasoning,
            error=parse_error,
            probability=optional(calibrated[i]),
            uncalibrated_probability=optional(scored.probability[i]),
            threshold=decision.threshold,
            predicted=None if predicted is None or error is not None else int(predicted[i]),
            outside_mass=float(scored.off_label_mass[i]),
            valid=not invalid[i],
            truncated_tokens=int(scored.truncated_tokens[i]),
            bounded=bool(scored.bounded[i]),
        )


def write(path: Path, rows: Iterable[PredictionRecord]) -> int:
    """Write a JSON array, one record per line, with one row in memory at a time. Raises ValueError on NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = 0
    with path.open("wb") as f:
        f.write(b"[")
        for row in rows:
            fields = jsonio.as_row(row)
            try:
                line = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
            except UnicodeEncodeError:  # half of a surrogate pair: JSON can escape it, UTF-8 cannot encode it
                line = json.dumps(fields, allow_nan=False).encode()
            f.write((b",\n" if n else b"\n") + line)
            n += 1
        f.write(b"\n]\n" if n else b"]\n")
    return n
