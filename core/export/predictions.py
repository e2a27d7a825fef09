"""`{split}.json`: what the model predicts for each text, one record per line inside one JSON array.

A record has two labels, which may differ. `predicted` is the decision: the probability against the threshold.
`pred_label` is the model's own answer: read from the generated text, or, if none was generated, the more
probable label at the place where the model would write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import StageError
from core.evaluation.decision import Decision
from core.evaluation.predictions import Predictions, at_or_above, optional
from core.records import Example, SplitName

EVEN_ODDS = 0.5


def write_predictions(
    path: Path, split: SplitName, examples: Sequence[Example], scored: Predictions, decision: Decision
) -> None:
    """Write a JSON array with one record for each example, in order; `scored` are not calibrated.

    One record is in memory at a time. Raises StageError if examples and predictions do not match, and
    ValueError on NaN.
    """
    if len(examples) != len(scored):
        raise StageError(f"{split} has {len(examples)} examples but {len(scored)} were scored")
    with path.open("wb") as f:
        before = b"[\n"
        for record in _records(split, examples, scored, decision):
            try:
                line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
            except UnicodeEncodeError:  # half of a surrogate pair: JSON can escape it, UTF-8 cannot encode it
                line = json.dumps(record, allow_nan=False).encode()
            f.write(before + line)
            before = b",\n"
        f.write(b"\n]\n" if examples else b"[]\n")


def _records(
    split: SplitName, examples: Sequence[Example], scored: Predictions, decision: Decision
) -> Iterator[dict[str, Any]]:
    """Yield records. `predicted` is None without a threshold, and for a row that a server failed on."""
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
        yield {
            "sample_id": f"{split}_{i}_k0",
            "example_id": example.id,
            "split": split,
            "k_index": 0,
            "text": example.text,
            "gold_label": example.label,
            "raw_output": generated.text,
            "parse_ok": own_label is not None,
            "parse_source": None
            if own_label is None
            else "scored"
            if generated.text is None
            else "generated",
            "pred_label": own_label,
            "reasoning": generated.reasoning,
            "error": parse_error,
            "probability": optional(calibrated[i]),
            "uncalibrated_probability": optional(scored.probability[i]),
            "threshold": decision.threshold,
            "predicted": None if predicted is None or error is not None else int(predicted[i]),
            "outside_mass": float(scored.off_label_mass[i]),
            "valid": not invalid[i],
            "truncated_tokens": int(scored.truncated_tokens[i]),
            "bounded": bool(scored.bounded[i]),
        }
