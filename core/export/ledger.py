"""`ledger.json`: what a run took, in tokens, money and seconds, whoever made its objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.cost import TrainingPrice
from core.store.manifest import Manifest

_MILLION = 1_000_000
_SO_FAR = "_of_the_run"
"""The end of the names of what grows while a run goes on, from one sample stage to the next."""


def teacher_ledger(stages: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """One ledger of all sample stages', each as core.teacher.live writes it; None without any.

    What is `_of_the_run` is taken once from each run that made one of them, where it is largest: then the
    run had asked most of what it asked. All the rest is a stage's own. Counts are added; money is None
    where it is for one of them.
    """
    ledgers = list(stages)
    if not ledgers:
        return None
    growing = sorted(ledgers, key=lambda ledger: ledger["requests_of_the_run"])
    last = {ledger.get("run", ""): ledger for ledger in growing}  # an earlier version named no run
    out: dict[str, Any] = {"runs": sorted(last)}
    for name in ledgers[0]:
        if name != "run":
            of = last.values() if name.endswith(_SO_FAR) else ledgers
            out[name] = _added([ledger[name] for ledger in of])
    return out


def _added(values: Sequence[Any]) -> Any:
    """The sum of counts by name, of numbers, or None where one is unknown."""
    if all(isinstance(value, Mapping) for value in values):
        return dict(sum(map(Counter, values), Counter()).most_common())
    return None if None in values else round(sum(values), 6)


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
