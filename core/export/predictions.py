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
from core.evaluation.columns import predict
from core.evaluation.decision import Decision
from core.records import Example, ScoredExample, SplitName

EVEN_ODDS = 0.5


def records(
    split: SplitName, examples: Sequence[Example], scored: Sequence[ScoredExample], decision: Decision
) -> Iterator[dict[str, Any]]:
    """One record for each example, in order; `scored` as they came, not calibrated.

    Raises StageError where the two lists do not match.
    """
    if len(examples) != len(scored):
        raise StageError(f"{split} has {len(examples)} examples but {len(scored)} were scored")
    calibrated = decision.calibrator.apply_to(scored)
    for i, (example, row) in enumerate(zip(examples, scored, strict=True)):
        if example.id != row.example_id:
            raise StageError(f"{split} row {i} is example {example.id}, but {row.example_id} was scored")
        yield record(split, i, example, row, calibrated[i].probability, decision.threshold)


def record(
    split: SplitName,
    i: int,
    example: Example,
    row: ScoredExample,
    probability: float | None,
    threshold: float | None,
) -> dict[str, Any]:
    """One record; `raw_output` and `error` are None where no answer was generated.

    `probability` is the calibrated one, which the threshold is for. Nothing is predicted without a
    threshold, nor of a row that a server failed on.
    """
    decides = row.error is None and threshold is not None
    said = _generated(row) if row.raw_output is not None else _scored(row)
    return {
        "sample_id": f"{split}_{i}_k0",
        "example_id": example.id,
        "split": split,
        "k_index": 0,
        "text": example.text,
        "gold_label": row.gold,
        "raw_output": row.raw_output,
        **said,
        "probability": probability,
        "uncalibrated_probability": row.probability,
        "threshold": threshold,
        "predicted": predict(probability, threshold) if decides and threshold is not None else None,
        "outside_mass": row.outside,
        "valid": row.valid,
        "truncated_tokens": row.truncated_tokens,
        "bounded": row.bounded,
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


def _generated(row: ScoredExample) -> dict[str, Any]:
    parsed = row.emitted_label is not None
    error = None if parsed else "parse_failed"
    if not (row.raw_output or "").strip():
        error = "empty_response"
    return {
        "parse_ok": parsed,
        "parse_source": "generated" if parsed else None,
        "pred_label": row.emitted_label,
        "reasoning": row.reasoning,
        "error": error,
    }


def _scored(row: ScoredExample) -> dict[str, Any]:
    says = row.valid and row.probability is not None
    return {
        "parse_ok": says,
        "parse_source": "scored" if says else None,
        "pred_label": predict(row.probability, EVEN_ODDS) if says else None,
        "reasoning": row.reasoning,
        "error": row.error,
    }


def _line(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON can escape it, UTF-8 cannot hold it
        return json.dumps(row, allow_nan=False).encode()
