"""`ledger.json` and `cost_estimate.json`: what a run took, in tokens, money and seconds, and the forecast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from core.cost import TrainingPrice
from core.jsonio import Record
from core.results import Ledger, StudentLedger, TeacherTotals
from core.store import Manifest
from core.teacher.samples import TeacherLedger

_MILLION = 1_000_000
_GROWING = "_of_the_run"
"""The end of the names of counts that grow from one sample stage of a run to the next."""


class EstimatedPart(Record):
    """Tokens of the calls of one kind, such as all evaluations."""

    name: str
    calls: int = 1
    trained_tokens: int = 0
    prefilled_tokens: int = 0
    sampled_tokens: int = 0


class CostEstimate(Record):
    """cost_estimate.json: the estimated cost of a student on a training server."""

    model: str = ""
    steps: int = 0
    trained_tokens: int
    prefilled_tokens: int
    sampled_tokens: int
    usd: float | None
    """None without a price."""
    prices_usd_per_million: TrainingPrice | None = None
    parts: tuple[EstimatedPart, ...] = ()
    notes: tuple[str, ...]
    """What the estimate assumes."""

    @property
    def sentence(self) -> str:
        """The whole estimate in one sentence."""
        money = "an unknown sum" if self.usd is None else f"about US$ {self.usd:.4f}"
        return (
            f"the student ({self.model}) will take {money}: {self.trained_tokens:,} tokens trained "
            f"in {self.steps:,} steps, {self.prefilled_tokens:,} prefilled, {self.sampled_tokens:,} sampled"
        )

    def lines(self) -> Iterator[str]:
        """The estimate and its parts, as text."""
        yield self.sentence
        for part in self.parts:
            counts = (part.trained_tokens, part.prefilled_tokens, part.sampled_tokens)
            named = zip(counts, ("trained", "prefilled", "sampled"), strict=True)
            listed = ", ".join(f"{n:,} {what}" for n, what in named if n)
            yield f"  {part.name}{f' ({part.calls} times)' if part.calls > 1 else ''}: {listed}"
        yield from (f"  {note}" for note in self.notes)


class _Usage(Record):
    """Tokens that a server bills, in a stage's summary."""

    prefilled_tokens: int = 0
    sampled_tokens: int = 0
    requests: int = 0


class _Billed(Record):
    """What is read of the summaries of stages that train or ask a student."""

    tokens: int = 0
    usage: _Usage | None = None


def ledger(teacher: Sequence[TeacherLedger], student: StudentLedger, seconds: Mapping[str, float]) -> Ledger:
    """Return the ledger of a run; `teacher` has the ledger of each sample stage, if one was asked."""
    added = teacher_ledger(teacher)
    dollars = (student.usd, None if added is None else added.usd_of_the_run)
    spent = [part for part in dollars if part is not None]
    usd = round(sum(spent), 6) if spent else None
    return Ledger(usd=usd, teacher=added, student=student, seconds=dict(seconds))


def teacher_ledger(stages: Sequence[TeacherLedger]) -> TeacherTotals | None:
    """Return the sum of the sample stages' ledgers; None without any.

    Counts of the run so far are taken once from each run, from the stage where they are largest: it was made
    last. All others are a stage's own and are added. Money is None if it is None for one of them.
    """
    if not stages:
        return None
    last = {each.run: each for each in sorted(stages, key=lambda each: each.requests_of_the_run)}
    added: dict[str, Any] = {
        name: _added([getattr(each, name) for each in (last.values() if name.endswith(_GROWING) else stages)])
        for name in TeacherLedger.model_fields
        if name != "run"
    }
    return TeacherTotals(runs=tuple(sorted(last)), **added)


def _added(values: Sequence[Any]) -> Any:
    """The sum of counts by name, of numbers, or None if one is unknown."""
    if all(isinstance(value, Mapping) for value in values):
        return dict(sum(map(Counter, values), Counter()).most_common())
    return None if None in values else round(sum(values), 6)


def student_ledger(
    segments: Iterable[Manifest], measured: Iterable[Manifest], price: TrainingPrice | None
) -> StudentLedger:
    """Return the tokens of all segments and measurements, and US dollars if a server bills by a known price.

    Prompts are counted whole, though a server may have had their beginnings in its cache.
    """
    used = [_Billed.from_json(m.summary, m.path).usage or _Usage() for m in measured]
    trained = sum(_Billed.from_json(m.summary, m.path).tokens for m in segments)
    prefilled = sum(each.prefilled_tokens for each in used)
    sampled = sum(each.sampled_tokens for each in used)
    counts = {"trained_tokens": trained, "prefilled_tokens": prefilled, "sampled_tokens": sampled}
    requests, usd = sum(each.requests for each in used), None
    if price is not None:
        dollars = trained * price.train + prefilled * price.prefill + sampled * price.sample
        usd = round(dollars / _MILLION, 6)
    return StudentLedger(**counts, requests=requests, usd=usd)
