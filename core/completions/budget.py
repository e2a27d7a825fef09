"""What a run may spend at an endpoint, what it has used, and what a request is expected to take."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.config.endpoint import BudgetConfig
from core.cost import Price, Range, Usage, cost
from core.errors import BudgetSpent
from core.prompts import Message

BYTES_PER_TOKEN = 4.0
"""Of English in the vocabularies in use; other scripts take up to three times the tokens, which the
first answers show."""
_PER_MESSAGE = 4
LEARNED_AFTER = 20


@dataclass(slots=True)
class RequestLedger:
    """What this start of the run sent, and the outcomes."""

    answered: int = 0
    usage: Usage = field(default_factory=Usage)
    retried: Counter[str] = field(default_factory=Counter)
    """Requests that were sent again, by reason."""
    unread: Counter[str] = field(default_factory=Counter)
    """Requests that the endpoint rejects for their text, by its words."""
    failed: dict[str, str] = field(default_factory=dict)
    """Ids of requests that were not answered in all tries, with the last try's words."""

    @property
    def given_up(self) -> Counter[str]:
        """Requests without an answer, by the endpoint's words."""
        return self.unread + Counter(self.failed.values())


class Budget:
    """Limits of money and tokens, reserved before a request is sent and settled after.

    Spending stays within the limits as long as no answer takes more than was reserved for it, and otherwise
    exceeds them by no more than the requests in flight.
    """

    def __init__(
        self,
        limits: BudgetConfig,
        price: Price | None = None,
        spent: Usage | None = None,
        section: str = "teacher",
    ) -> None:
        """`spent` is what earlier starts of the run used; `section` the config section, for messages."""
        self.limits, self.price, self._section = limits, price, section
        self.spent, self.reserved = spent or Usage(), Usage()
        """Settled so far, earlier starts included; and held back for requests in flight."""
        self._gate = asyncio.Lock()
        self._settled = asyncio.Event()

    async def reserve(self, estimate: Usage) -> None:
        """Reserve `estimate`, in the order of the calls, to be settled later.

        Waits while only the reservations of others are in the way: most answers take less than was reserved.
        Raises BudgetSpent if the remaining budget is too small for this request.
        """
        async with self._gate:
            self._require(estimate)
            while not self._fits(self.spent + self.reserved + estimate):
                self._settled.clear()
                await self._settled.wait()
                self._require(estimate)
            self.reserved += estimate

    def settle(self, reserved: Usage, used: Usage) -> None:
        """Release the reservation of a request that has ended, and add what it used."""
        self.reserved -= reserved
        self.spent += used
        self._settled.set()

    def _fits(self, total: Usage) -> bool:
        usd, tokens = self.limits.usd, self.limits.tokens
        return (usd is None or cost(total, self.price) <= usd) and (tokens is None or total.total <= tokens)

    def _require(self, estimate: Usage) -> None:
        if self._fits(self.spent + estimate):
            return
        usd, tokens = self.limits.usd, self.limits.tokens
        if usd is not None and cost(self.spent + estimate, self.price) > usd:
            name, need = "usd", f"${cost(estimate, self.price):.4f}"
            spent = f"${cost(self.spent, self.price):.4f} of ${usd:.4f}"
        else:
            name, spent, need = "tokens", f"{self.spent.total} tokens of {tokens}", str(estimate.total)
        setting = f"{self._section}.budget.{name}"
        raise BudgetSpent(
            f"{setting} is spent: {spent}, and the next request may take {need}; raise {setting} and run the "
            "same command again: stored answers are not requested twice"
        )


class _Mean:
    """A running mean with its standard error (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self._m2 = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        delta = value - self.mean
        self.mean += delta / self.n
        self._m2 += delta * (value - self.mean)

    def interval(self) -> Range:
        error = 1.96 * math.sqrt(self._m2 / (self.n - 1) / self.n) if self.n > 1 else math.inf
        return Range(max(0.0, self.mean - error), self.mean, self.mean + error)


class Estimator:
    """Tokens of prompts and completions: bytes/4 and `max_tokens` at first, learned after 20 answers."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._ratio = _Mean()
        self._completions = _Mean()

    @property
    def learned(self) -> bool:
        """Whether the server's own counts are used."""
        return self._ratio.n >= LEARNED_AFTER

    def prompt(self, rough: float) -> Range:
        """Return the tokens of a prompt of `rough` tokens by `rough_tokens`; wide bounds until learned."""
        return self._ratio.interval() * rough if self.learned else Range(0.5 * rough, rough, 3 * rough)

    def completion(self) -> Range:
        """Return the mean completion; until learned, up to `max_tokens`, most likely a tenth of it."""
        if self.learned:
            return self._completions.interval()
        return Range(0.0, 0.1 * self._max_tokens, float(self._max_tokens))

    def reservation(self, rough: float) -> Usage:
        """Return what to reserve: the means, rounded up; for the completion all it may have until learned."""
        completion = self._completions.mean if self.learned else self._max_tokens
        return Usage(math.ceil(self.prompt(rough).mean), math.ceil(completion))

    def learn(self, rough: float, usage: Usage) -> None:
        """Add what the server counted for an answer to a prompt that is `rough`."""
        self._ratio.add(usage.prompt / rough)
        self._completions.add(usage.completion)


def rough_tokens(messages: Sequence[Message]) -> float:
    """Return the tokens of a prompt by its bytes alone."""
    size = sum(len(m.role) + len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
    return size / BYTES_PER_TOKEN + _PER_MESSAGE * max(1, len(messages))
