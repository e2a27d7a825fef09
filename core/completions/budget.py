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
from core.cost import Price, Prices, Range, Usage, cost
from core.errors import BudgetSpent, TeacherRefused
from core.prompts import Message

log = logging.getLogger(__name__)


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
    exceeds them by no more than the requests in flight. `spent` is what earlier starts of the run spent.
    """

    def __init__(self, usd: float | None, tokens: int | None, spent: Spending | None = None) -> None:
        self._usd = usd
        self._tokens = tokens
        self._spent = spent or Spending()
        self._reserved = Spending()
        self._gate = asyncio.Lock()
        self._settled = asyncio.Event()
        self._under_way = 0

    @property
    def spent(self) -> Spending:
        """Settled so far, earlier runs included."""
        return self._spent

    @property
    def reserved(self) -> Spending:
        """Held back for requests under way."""
        return self._reserved

    async def reserve(self, estimate: Spending) -> Spending:
        """Reserve `estimate`, in the order of the calls; pass what is returned to `settle`.

        Waits while only the reservations of others are in the way: most answers cost less than was reserved.
        Raises BudgetSpent where the remaining budget is too small for this request.
        """
        async with self._gate:
            while True:
                self._refuse(estimate)
                if self._under_way == 0 or self._fits(self._spent + self._reserved + estimate):
                    break
                self._settled.clear()
                await self._settled.wait()
            self._reserved += estimate
            self._under_way += 1
            return estimate

    def settle(self, reserved: Spending, used: Spending) -> None:
        """A request ended: it used this (nothing, where it failed), and its reservation is free."""
        self._under_way -= 1
        # From none under way on, exactly nothing is reserved: sums of floats do not cancel.
        self._reserved = self._reserved - reserved if self._under_way else Spending()
        self._spent += used
        self._settled.set()

    def _fits(self, total: Spending) -> bool:
        within_usd = self._usd is None or total.usd <= self._usd
        return within_usd and (self._tokens is None or total.tokens <= self._tokens)

    def _refuse(self, estimate: Spending) -> None:
        if self._fits(self._spent + estimate):
            return
        total = self._spent + estimate
        if self._usd is not None and total.usd > self._usd:
            field, spent, limit = "usd", f"${self._spent.usd:.4f}", f"${self._usd:.4f}"
            need = f"${estimate.usd:.4f}"
        else:
            field, spent, limit = "tokens", f"{self._spent.tokens} tokens", f"{self._tokens}"
            need = str(estimate.tokens)
        raise BudgetSpent(
            f"the teacher's budget is spent: {spent} of {limit}, and the next request may take {need}; "
            f"raise teacher.budget.{field} and run the same command again: no answer given so far is "
            "asked for twice"
        )


def price_of(endpoint: Endpoint) -> Price | None:
    """Return the model's price. Raises ConfigError where a budget in money needs one and there is none."""
    prices, model = Prices(endpoint.prices), endpoint.model
    return prices.demand(model) if endpoint.budget.usd is not None else prices.price_of(model)


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
    return Spending(cost(usage, price) if price else 0.0, usage.total)


BYTES_PER_TOKEN = 4.0
"""Of English in the vocabularies in use; other scripts take up to three times the tokens, which the
first answers tell."""
_PER_MESSAGE = 4
LEARNT_AFTER = 20


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

    def prompt(self, rough: float) -> int:
        """Tokens of a prompt that is `rough` by `rough_tokens`, rounded up."""
        return math.ceil(self.prompt_interval(rough).mean)

    def prompt_interval(self, rough: float) -> Range:
        """As `prompt`, with bounds; from half to three times as many until learnt."""
        return self._ratio.interval() * rough if self.learnt else Range(0.5 * rough, rough, 3 * rough)

    def completion(self) -> int:
        """Tokens to reserve for an answer: all that it may have, until the mean is learnt."""
        return math.ceil(self._completions.mean) if self.learnt else self._max_tokens

    def completion_interval(self) -> Range:
        """The mean completion; until learnt, somewhere up to `max_tokens`, most likely a tenth of it."""
        if self.learnt:
            return self._completions.interval()
        return Range(0.0, 0.1 * self._max_tokens, float(self._max_tokens))

    def learn(self, rough: float, usage: Usage) -> None:
        """Take in what the server counted for an answer to a prompt that is `rough`."""
        self._ratio.add(usage.prompt / rough)
        self._completions.add(usage.completion)


@dataclass(slots=True)
class RequestLedger:
    """What this start of the run sent, and what became of it."""

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

    def __init__(self, endpoint: Endpoint, journal: Journal) -> None:
        self.ledger = RequestLedger()
        self._endpoint, self._journal = endpoint, journal
        self._price = price_of(endpoint)
        self._budget = Budget(endpoint.budget.usd, endpoint.budget.tokens, spent_before(journal, self._price))
        self._estimator = Estimator(endpoint.max_tokens)
        self._has_warned = False

    @property
    def spent(self) -> Spending:
        """What the run spent so far, earlier starts included."""
        return self._budget.spent

    def estimate(self, rough: float) -> Usage:
        """Return what to reserve for a request whose prompt is `rough` by `rough_tokens`."""
        return Usage(self._estimator.prompt(rough), self._estimator.completion())

    async def reserve(self, estimate: Usage) -> Spending:
        """Hold the estimate back. Raises BudgetSpent."""
        return await self._budget.reserve(Spending(self._usd(estimate), estimate.total))

    def settle(self, held: Spending, used: Spending) -> None:
        """Release what was held back for a request that used this much."""
        self._budget.settle(held, used)

    def count_answer(self, counted: Counted | None, held: Spending, rough: float) -> Spending:
        """Count an answer, and return what it used; where the server does not say, what was held back.

        Raises TeacherRefused where a budget cannot be kept because the server never counts tokens.
        """
        self.ledger.answered += 1
        used = self.count(counted)
        if counted is None:
            self._refuse_unmetered()
            return held
        if counted.is_partial:
            return Spending(max(used.usd, held.usd), max(used.tokens, held.tokens))
        self._estimator.learn(rough, counted.usage)
        return used

    def count(self, counted: Counted | None) -> Spending:
        """Add to the ledger what a reply used, be it an answer or a failure that is billed."""
        if counted is None:
            return Spending()
        before, usage = self.ledger.usage, counted.usage
        self.ledger.usage = Usage(
            before.prompt + usage.prompt, before.completion + usage.completion, before.cached + usage.cached
        )
        usd = self._usd(usage)
        self.ledger.usd += usd
        if counted.conflict and not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s reports token counts that contradict each other (%s); of such counts the larger is used",
                self._endpoint.base_url,
                counted.conflict,
            )
        return Spending(usd, usage.total)

    def _refuse_unmetered(self) -> None:
        budget = self._endpoint.budget
        limited = budget.usd is not None or budget.tokens is not None
        metered = self.ledger.usage.total + self._journal.spent(self._journal.run).prompt_tokens
        if limited and metered == 0:
            raise TeacherRefused(
                f"{self._endpoint.base_url} does not say how many tokens an answer took, so that no budget "
                f"can be kept; remove {self._endpoint.section}.budget, and run the same command again"
            )

    def _usd(self, usage: Usage) -> float:
        return cost(usage, self._price) if self._price else 0.0


def rough_tokens(messages: Sequence[Message]) -> float:
    """Tokens of a prompt by its bytes alone."""
    size = sum(len(m.role) + len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
    return size / BYTES_PER_TOKEN + _PER_MESSAGE * max(1, len(messages))
