"""`ledger.json`: what a run took, in tokens, money and seconds, whoever made its objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.prices import TrainingPrice
from core.store.manifest import Manifest

_MILLION = 1_000_000


def student_ledger(
    segments: Iterable[Manifest], measured: Iterable[Manifest], price: TrainingPrice | None
) -> dict[str, Any]:
    """Tokens of all segments and measurements, and US dollars where a server bills by a known price.

    Prompts are counted whole, though a server may have had their beginnings in its cache.
    """
    used = [m.summary.get("usage") or {} for m in measured]
    trained = sum(int(m.summary["tokens"]) for m in segments)
    prefilled = sum(int(each.get("prefilled_tokens", 0)) for each in used)
    sampled = sum(int(each.get("sampled_tokens", 0)) for each in used)
    usd = None
    if price is not None:
        usd = round(
            (trained * price.train + prefilled * price.prefill + sampled * price.sample) / _MILLION, 6
        )
    return {
        "trained_tokens": trained,
        "prefilled_tokens": prefilled,
        "sampled_tokens": sampled,
        "requests": sum(int(each.get("requests", 0)) for each in used),
        "usd": usd,
    }


def to_json(
    teacher: Mapping[str, Any] | None, student: Mapping[str, Any], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """The file's content; `teacher` is None where answers were recorded or gold."""
    spent = [part["usd"] for part in (student,) if part["usd"] is not None]
    if teacher is not None and teacher.get("usd_of_the_run") is not None:
        spent.append(teacher["usd_of_the_run"])
    return {
        "usd": round(sum(spent), 6) if spent else None,
        "teacher": None if teacher is None else dict(teacher),
        "student": dict(student),
        "seconds": dict(seconds),
    }
