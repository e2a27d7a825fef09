"""What the teacher's server counts: every request by its text, and the bill."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from dataclasses import dataclass, field

from tests.servers.teacher_orders import Counts, Prices, TextCount, Totals

DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply; `cached` are part of `prompt`."""

    prompt: int
    completion: int
    cached: int

    def json(self) -> dict[str, object]:
        """As OpenAI reports it, and under DeepSeek's names too."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "prompt_cache_hit_tokens": self.cached,
            "prompt_cache_miss_tokens": self.prompt - self.cached,
        }


@dataclass(slots=True)
class Entry:
    """The account of one text, or of all."""

    received: int = 0
    answered: int = 0
    billed: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    failed: Counter[str] | None = None

    def bill(self, usage: Usage) -> None:
        self.billed += 1
        self.prompt += usage.prompt
        self.completion += usage.completion
        self.cached += usage.cached

    def fail(self, status: str) -> None:
        # Most texts never fail, and a million empty counters would cost more than all the rest.
        self.failed = self.failed or Counter()
        self.failed[status] += 1

    def json(self) -> TextCount:
        return TextCount(
            received=self.received,
            answered=self.answered,
            billed=self.billed,
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            cached_tokens=self.cached,
            failed=dict(self.failed or {}),
        )


@dataclass(slots=True)
class Ledger:
    """All accounts since the start or the last reset."""

    prices: Prices
    texts: dict[str, Entry] = field(default_factory=dict)
    all: Entry = field(default_factory=Entry)
    statuses: Counter[str] = field(default_factory=Counter)
    arrivals: array[float] = field(default_factory=lambda: array("d"))
    in_flight: int = 0
    most_in_flight: int = 0

    def receive(self, id: str) -> Entry:
        """A request came in; gives the text's account."""
        entry = self.texts.get(id)
        if entry is None:
            entry = self.texts[id] = Entry()
        entry.received += 1
        self.all.received += 1
        self.arrivals.append(time.time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return entry

    def bill(self, entry: Entry, usage: Usage) -> None:
        """The work was done."""
        entry.bill(usage)
        self.all.bill(usage)

    def end(self, entry: Entry, status: str) -> None:
        """The request is over: with "200" where a whole reply went out."""
        self.in_flight -= 1
        self.statuses[status] += 1
        if status == "200":
            entry.answered += 1
            self.all.answered += 1
        else:
            entry.fail(status)

    def reset(self) -> None:
        """Begin anew; what is in flight stays so."""
        self.texts, self.all, self.statuses = {}, Entry(), Counter()
        self.arrivals, self.most_in_flight = array("d"), self.in_flight

    def money(self) -> float:
        """What all replies cost."""
        fresh = (self.all.prompt - self.all.cached) * self.prices.prompt
        cached = self.all.cached * self.prices.cached
        return (fresh + cached + self.all.completion * self.prices.completion) / 1e6

    def totals(self) -> Totals:
        """All texts together."""
        return Totals(
            texts=len(self.texts),
            received=self.all.received,
            answered=self.all.answered,
            billed=self.all.billed,
            in_flight=self.in_flight,
            most_in_flight=self.most_in_flight,
            statuses=dict(self.statuses),
            prompt_tokens=self.all.prompt,
            completion_tokens=self.all.completion,
            cached_tokens=self.all.cached,
            money=self.money(),
        )

    def counts(self) -> Counts:
        """Each text as well."""
        return Counts(totals=self.totals(), texts={id: e.json() for id, e in self.texts.items()})
