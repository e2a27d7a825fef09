"""`{split}.json`: what the model says of each text, one record a line inside one JSON array.

Two labels stand in a record and may differ. `predicted` is the decision: the probability against
the threshold. `pred_label` is what the model itself says: read from its generated answer, or,
where none was generated, the more probable label at the place where it would say it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import StageError
from core.evaluation.decision import Decision
from core.evaluation.predictions import Generated, Predictions, at_or_above, optional
from core.records import Example, SplitName

EVEN_ODDS = 0.5


def records(
    split: SplitName, examples: Sequence[Example], scored: Predictions, decision: Decision
) -> Iterator[dict[str, Any]]:
    """Yield one record for each example, in order; `scored` before calibration.

    `raw_output` and `error` are None where no answer was generated. `probability` is the calibrated one, for
    which the threshold is. Nothing is predicted without a threshold, nor for a row that a server failed on.
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
        by_probability = None if invalid[i] else int(probable[i])
        yield {
            "sample_id": f"{split}_{i}_k0",
            "example_id": example.id,
            "split": split,
            "k_index": 0,
            "text": example.text,
            "gold_label": example.label,
            "raw_output": generated.text,
            **(_scored(by_probability, generated, error) if generated.text is None else _parsed(generated)),
            "probability": optional(calibrated[i]),
            "uncalibrated_probability": optional(scored.probability[i]),
            "threshold": decision.threshold,
            "predicted": None if predicted is None or error is not None else int(predicted[i]),
            "outside_mass": float(scored.off_label_mass[i]),
            "valid": not invalid[i],
            "truncated_tokens": int(scored.truncated_tokens[i]),
            "bounded": bool(scored.bounded[i]),
        }


def write(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write a JSON array, one record a line, holding one at a time. Raises ValueError on NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = 0
    with path.open("wb") as f:
        f.write(b"[")
        for row in rows:
            f.write(b",\n" if n else b"\n")
            f.write(_line(row))
            n += 1
        f.write(b"\n]\n" if n else b"]\n")
    return n


def _parsed(generated: Generated) -> dict[str, Any]:
    """The label that the model states in its generated answer."""
    parsed = generated.label is not None
    error = None if parsed else "parse_failed"
    if not (generated.text or "").strip():
        error = "empty_response"
    return {
        "parse_ok": parsed,
        "parse_source": "generated" if parsed else None,
        "pred_label": generated.label,
        "reasoning": generated.reasoning,
        "error": error,
    }


def _scored(label: int | None, generated: Generated, error: str | None) -> dict[str, Any]:
    """The more probable label at the label's place; None for an invalid row."""
    return {
        "parse_ok": label is not None,
        "parse_source": None if label is None else "scored",
        "pred_label": label,
        "reasoning": generated.reasoning,
        "error": error,
    }


def _line(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON can escape it, UTF-8 cannot hold it
        return json.dumps(row, allow_nan=False).encode()
