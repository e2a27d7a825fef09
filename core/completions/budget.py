"""What a run may spend at an endpoint, and what a request is expected to take."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.completions.journal import Journal
from core.completions.response import Counted
from core.config.endpoint import Endpoint
from core.cost import Price, Range, Usage, cost, price_of
from core.errors import BudgetSpent, TeacherRefused
from core.prompts import Message

log = logging.getLogger(__name__)

BYTES_PER_TOKEN = 4.0
"""Of English in the vocabularies in use; other scripts take up to three times the tokens, which the
first answers show."""
_PER_MESSAGE = 4
LEARNT_AFTER = 20


@dataclass(frozen=True, slots=True)
class Spending:
    """US dollars and tokens, prompt and completion together."""

    usd: float = 0.0
    tokens: int = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Spending) -> Spending:
        return Spending(self.usd - other.usd, self.tokens - other.tokens)


class Budget:
    """Limits of money and tokens, reserved before a request is sent and settled after; None means no limit.

    Spending stays within the limits as long as no answer costs more than was reserved for it, and otherwise
    exceeds them by no more than the requests in flight. `spent` is what earlier starts of the run spent, and
    `section` the config section of the endpoint, for messages.
    """

    def __init__(
        self, usd: float | None, tokens: int | None, spent: Spending | None = None, section: str = "teacher"
    ) -> None:
        self._usd, self._tokens, self._section = usd, tokens, section
        self.spent = spent or Spending()
        """Settled so far, earlier starts included."""
        self.reserved = Spending()
        """Held back for requests in flight."""
        self._gate = asyncio.Lock()
        self._settled = asyncio.Event()
        self._in_flight = 0

    async def reserve(self, estimate: Spending) -> Spending:
        """Reserve `estimate`, in the order of the calls; pass what is returned to `settle`.

        Waits while only the reservations of others are in the way: most answers cost less than was reserved.
        Raises BudgetSpent if the remaining budget is too small for this request.
        """
        async with self._gate:
            while True:
                if not self._fits(self.spent + estimate):
                    raise self._exceeded(estimate)
                if self._in_flight == 0 or self._fits(self.spent + self.reserved + estimate):
                    break
                self._settled.clear()
                await self._settled.wait()
            self.reserved += estimate
            self._in_flight += 1
            return estimate

    def settle(self, reserved: Spending, used: Spending) -> None:
        """Release the reservation of a request that has ended, and add what it used."""
        self._in_flight -= 1
        # Sums of floats do not cancel, so that nothing is left only by assignment.
        self.reserved = self.reserved - reserved if self._in_flight else Spending()
        self.spent += used
        self._settled.set()

    def _fits(self, total: Spending) -> bool:
        within_usd = self._usd is None or total.usd <= self._usd
        return within_usd and (self._tokens is None or total.tokens <= self._tokens)

    def _exceeded(self, estimate: Spending) -> BudgetSpent:
        if self._usd is not None and self.spent.usd + estimate.usd > self._usd:
            name, spent, need = "usd", f"${self.spent.usd:.4f} of ${self._usd:.4f}", f"${estimate.usd:.4f}"
        else:
            name, spent = "tokens", f"{self.spent.tokens} tokens of {self._tokens}"
            need = str(estimate.tokens)
        setting = f"{self._section}.budget.{name}"
        return BudgetSpent(
            f"{setting} is spent: {spent}, and the next request may take {need}; raise {setting} and run the "
            "same command again: stored answers are not requested twice"
        )


def spent_before(journal: Journal, price: Price | None) -> Spending:
    """Return what earlier starts of this run spent, by the journal.

    An answer without token counts costs what was reserved for it, as it does while the run continues.
    """
    found = journal.spent(journal.run)
    usage = Usage(
        found.prompt_tokens + found.reserved_prompt_tokens,
        found.completion_tokens + found.reserved_completion_tokens,
        found.cached_tokens,
    )
    return Spending(cost(usage, price), usage.total)


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
    """Tokens of prompts and completions: bytes/4 and `max_tokens` at first, learnt after 20 answers."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._ratio = _Mean()
        self._completions = _Mean()

    @property
    def learnt(self) -> bool:
        """Whether the server's own counts are used."""
        return self._ratio.n >= LEARNT_AFTER

    def prompt(self, rough: float) -> Range:
        """Return the tokens of a prompt that is `rough` by `rough_tokens`; until learnt, with bounds of half
        and three times as many.
        """
        return self._ratio.interval() * rough if self.learnt else Range(0.5 * rough, rough, 3 * rough)

    def completion(self) -> Range:
        """Return the mean completion; until learnt, up to `max_tokens`, most likely a tenth of it."""
        if self.learnt:
            return self._completions.interval()
        return Range(0.0, 0.1 * self._max_tokens, float(self._max_tokens))

    def reservation(self, rough: float) -> Usage:
        """Return what to reserve: the means, rounded up; for the completion all it may have until learnt."""
        completion = self._completions.mean if self.learnt else self._max_tokens
        return Usage(math.ceil(self.prompt(rough).mean), math.ceil(completion))

    def learn(self, rough: float, usage: Usage) -> None:
        """Add what the server counted for an answer to a prompt that is `rough`."""
        self._ratio.add(usage.prompt / rough)
        self._completions.add(usage.completion)


def rough_tokens(messages: Sequence[Message]) -> float:
    """Return the tokens of a prompt by its bytes alone."""
    size = sum(len(m.role) + len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
    return size / BYTES_PER_TOKEN + _PER_MESSAGE * max(1, len(messages))


@dataclass(slots=True)
class RequestLedger:
    """What this start of the run sent, and the outcomes."""

    answered: int = 0
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    usd: float = 0.0
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


class Accounts:
    """The budget, the price, the token estimates and the ledger of a run's requests to one endpoint."""

    def __init__(self, endpoint: Endpoint, journal: Journal, ledger: RequestLedger) -> None:
        self.ledger, self._endpoint, self._journal = ledger, endpoint, journal
        self._price = price_of(endpoint)
        spent, limits = spent_before(journal, self._price), endpoint.budget
        self.budget = Budget(limits.usd, limits.tokens, spent, endpoint.section)
        self.estimator = Estimator(endpoint.max_tokens)
        self._has_warned = False

    async def reserve(self, estimate: Usage) -> Spending:
        """Reserve an estimate in the budget. Raises BudgetSpent."""
        return await self.budget.reserve(Spending(cost(estimate, self._price), estimate.total))

    def count_answer(self, counted: Counted | None, held: Spending, rough: float) -> Spending:
        """Count an answer, and return what it used; what was reserved if the server does not state it.

        Raises TeacherRefused if a budget cannot be kept because the server never counts tokens.
        """
        self.ledger.answered += 1
        used = self.count(counted)
        if counted is None:
            limits, spent = self._endpoint.budget, self._journal.spent(self._journal.run)
            is_limited = limits.usd is not None or limits.tokens is not None
            if is_limited and self.ledger.usage.total + spent.prompt_tokens == 0:
                raise TeacherRefused(
                    f"{self._endpoint.base_url} does not say how many tokens an answer took, so that no "
                    f"budget can be kept; remove {self._endpoint.section}.budget, and run the same command "
                    "again"
                )
            return held
        if counted.is_partial:
            return Spending(max(used.usd, held.usd), max(used.tokens, held.tokens))
        self.estimator.learn(rough, counted.usage)
        return used

    def count(self, counted: Counted | None) -> Spending:
        """Add to the ledger what a reply used, be it an answer or a failure that is billed."""
        if counted is None:
            return Spending()
        usd = cost(counted.usage, self._price)
        self.ledger.usage += counted.usage
        self.ledger.usd += usd
        if counted.conflict and not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s reports token counts that contradict each other (%s); of such counts the larger is used",
                self._endpoint.base_url,
                counted.conflict,
            )
        return Spending(usd, counted.usage.total)
