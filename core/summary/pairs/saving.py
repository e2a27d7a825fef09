"""The comparison as files: comparison.json, changed.csv with all texts, left_out.csv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.summary.output import save
from core.summary.pairs.changes import Changes, of_outcome, to_json
from core.summary.pairs.pairing import Outcome, Pair, Paired

CHANGED: tuple[Outcome, ...] = ("fixed", "broken", "both_wrong")
_HEAD = (
    "outcome",
    "example_id",
    "gold",
    "a_predicted",
    "a_probability",
    "b_predicted",
    "b_probability",
    "text",
    "a_reasoning",
    "b_reasoning",
)


def write(folder: Path, paired: Paired, found: Changes) -> list[Path]:
    """Write the files, each at once, and return where. Raises StoreError."""
    content = json.dumps(to_json(paired, found), indent=2, ensure_ascii=False, allow_nan=False)
    changed = [(o, pair) for o in CHANGED for pair in of_outcome(paired.pairs, o)]
    left_out = [(each.example_id, each.why) for each in paired.left_out]
    return [
        save(content + "\n", folder / "comparison.json"),
        save(_csv(_HEAD, (_cells(o, pair) for o, pair in changed)), folder / "changed.csv"),
        save(_csv(("example_id", "why"), left_out), folder / "left_out.csv"),
    ]


def _cells(outcome: Outcome, pair: Pair) -> tuple[object, ...]:
    a, b = pair.a, pair.b
    judged = (a.predicted, a.probability, b.predicted, b.probability)
    return (outcome, a.example_id, a.gold, *judged, a.text, a.reasoning, b.reasoning)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()
