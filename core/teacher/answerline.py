"""One line of recorded answers: what it must hold, and what each kind of bad line is told.

A line names its text by `id`; a line of a run's own files, this project's or its predecessor's, has the
text itself, and says sample and label in words of its own.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from core.data.hashing import text_id
from core.errors import AnswersError
from core.teacher.parsing import clean

_SAMPLE_OF_ID = re.compile(r"_k(\d+)$")
_THOUGHT = re.compile(r"\s*<think>(.*)</think>\s*", re.DOTALL | re.IGNORECASE)
UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line of the file: who answered which text, and what. `raw_output` None: only the fields
    `label` and `reasoning` were recorded. `text` is that of a line without an id, whose `id` is then made
    from it."""

    id: str
    sample: int
    model: str
    raw_output: str | None
    label: object
    reasoning: object
    has_fields: bool
    finish_reason: str | None
    reasoning_content: str | None
    temperature: float | None
    hinted: bool
    text: str | None = None


def read_line(line: str, at: str, model: str = UNNAMED) -> Recorded:
    """Read one line that stands `at` file:line; `model` answered where it names none.

    Raises AnswersError with place, reason and remedy.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise AnswersError(f"{at}: not JSON ({e.msg} at column {e.colno}); mend or remove the line") from None
    except (ValueError, RecursionError) as e:
        raise AnswersError(f"{at}: not JSON ({e}); mend or remove the line") from None
    if not isinstance(row, dict):
        raise AnswersError(f"{at}: not a JSON object; a line holds id and raw_output, or reasoning and label")
    text = row.get("text")
    if "id" not in row and isinstance(text, str) and text.strip():
        row = _of_run(row, text)
    else:
        text = None
    return Recorded(
        id=_id(row, at),
        sample=_sample(row, at),
        model=_text(row, "model", at) or model,
        raw_output=_text(row, "raw_output", at),
        label=row.get("label"),
        reasoning=row.get("reasoning"),
        has_fields=_has_fields(row, at),
        finish_reason=_text(row, "finish_reason", at),
        reasoning_content=_thought(row),
        temperature=_temperature(row, at),
        hinted=row.get("hinted") is True,
        text=text,
    )


def _of_run(row: dict[str, Any], text: str) -> dict[str, Any]:
    """A line of a run's file in the words of a line with an id.

    The predecessor's later version kept the reasoning inside the tags it was written in.
    """
    match = _SAMPLE_OF_ID.search(str(row.get("sample_id")))
    sample = row.get("k_index", int(match[1]) if match else 0)
    fields: dict[str, Any] = {"id": text_id(clean(text)), "sample": sample}
    if "label" not in row and "pred_label" in row:
        fields["label"] = row["pred_label"]
    if isinstance(row.get("reasoning"), str) and (thought := _THOUGHT.fullmatch(row["reasoning"])):
        fields["reasoning"] = thought[1].strip()
    return {**row, **fields}


def _id(row: dict[str, Any], at: str) -> str:
    value = row.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return clean(value.strip())
    if value is None:
        raise AnswersError(f"{at}: neither id nor text; give the text's id, or the text itself")
    what = json.dumps(value)[:40]
    raise AnswersError(f"{at}: id is {what}; give the text's id, as text or a whole number")


def _sample(row: dict[str, Any], at: str) -> int:
    value = row.get("sample", 0)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    raise AnswersError(f"{at}: sample is {json.dumps(value)[:40]}; give a whole number from 0 on")


def _text(row: dict[str, Any], key: str, at: str) -> str | None:
    value = row.get(key)
    if value is None or isinstance(value, str):
        return clean(value) if value else value
    raise AnswersError(f"{at}: {key} is {json.dumps(value)[:40]}; give a text")


def _thought(row: dict[str, Any]) -> str | None:
    """What a live teacher's server put into its reasoning field; only a text counts."""
    value = row.get("reasoning_content")
    return clean(value) if isinstance(value, str) else None


def _temperature(row: dict[str, Any], at: str) -> float | None:
    value = row.get("temperature")
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise AnswersError(f"{at}: temperature is {json.dumps(value)[:40]}; give a number")


def _has_fields(row: dict[str, Any], at: str) -> bool:
    fields = "label" in row and "reasoning" in row
    if not fields and not isinstance(row.get("raw_output"), str):
        raise AnswersError(f"{at}: neither raw_output nor reasoning and label; give one of the two")
    return fields
