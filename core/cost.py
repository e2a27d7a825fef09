"""What answers and training cost: token usage, a price table that the user keeps, and forecasts."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, ValidationError

from core import packages
from core.config.base import Section
from core.config.reading import Source, read_source
from core.errors import ConfigError

log = logging.getLogger(__name__)

_MILLION = 1_000_000
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer as the server counts them; `cached` are a part of `prompt`."""

    prompt: int
    completion: int
    cached: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion."""
        return self.prompt + self.completion


class Price(Section):
    """US dollars per million tokens."""

    input: float = Field(ge=0)
    """Of the prompt, where it is not cached."""
    cached_input: float | None = Field(None, ge=0)
    """Of what the server had in its cache; by default as `input`."""
    output: float = Field(ge=0)
    """Of the completion."""


class TrainingPrice(Section):
    """US dollars per million tokens on a training server."""

    train: float = Field(ge=0)
    """Forward, backward and update."""
    prefill: float = Field(ge=0)
    """Prompts of samples and scores."""
    sample: float = Field(ge=0)
    """Generated."""


class PriceTable(Section):
    """Prices of models, by name or pattern."""

    as_of: dt.date
    """When they were looked up."""
    source: str
    """Where."""
    models: dict[str, Price]
    """By the model's name at the endpoint, with * and ? for any characters."""
    students: dict[str, TrainingPrice] = {}
    """Of training servers, by the base model's name there."""

    def price_of(self, model: str) -> Price | None:
        """The price of the nearest name; None, and a warning, where there is none."""
        for name in (model, _DATED.sub("", model)):
            fitting = [pattern for pattern in self.models if fnmatchcase(name, pattern)]
            if fitting:
                return self.models[max(fitting, key=lambda p: (p == name, len(p), p))]
        return None


class Prices:
    """The table of a run, or none; warns once of each model that it does not know."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._table = None if path is None else load_prices(path)
        self._warned: set[str] = set()

    def price_of(self, model: str) -> Price | None:
        """The price of a model; None where only its tokens can be counted."""
        price = self._table.price_of(model) if self._table else None
        if price is None and self._path is not None and model not in self._warned:
            self._warned.add(model)
            log.warning(
                "%s has no price of %s: tokens are counted and money is not; add a line under models",
                self._path,
                model,
            )
        return price

    def demand(self, model: str) -> Price:
        """As `price_of`, for a budget in money. Raises ConfigError where there is no price."""
        price = self.price_of(model)
        if price is None:
            raise ConfigError(
                f"teacher.budget.usd needs a price of {model}, and {self._path or 'teacher.prices: null'} "
                "has none; add it to the file that teacher.prices names, or set teacher.budget.tokens"
            )
        return price


def load_prices(path: str | Path) -> PriceTable:
    """Read the price table that a config names; the package has one of its own (see core.packages).

    Raises ConfigError, in one sentence, with file and line.
    """
    found = packages.find_default(str(path), "prices")
    if not found.is_file():
        raise ConfigError(f"no price table at {found.absolute()}; set teacher.prices to one, or to null")
    source = read_source(found)
    try:
        return PriceTable.model_validate_json(json.dumps(source.values, default=str), strict=True)
    except ValidationError as e:
        raise ConfigError(_sentence(e, source)) from None


def cost(usage: Usage, price: Price) -> float:
    """US dollars."""
    cached = price.input if price.cached_input is None else price.cached_input
    fresh = usage.prompt - usage.cached
    return (fresh * price.input + usage.cached * cached + usage.completion * price.output) / _MILLION


def _sentence(error: ValidationError, source: Source) -> str:
    first = error.errors()[0]
    key = tuple(str(part) for part in first["loc"])
    given = "" if first["type"] == "missing" else f", not {first['input']!r:.40}"
    message = first["msg"].removeprefix("Input ")
    return f"{source.place(key)}: {'.'.join(key)}: {message}{given}; see configs/prices.yaml for an example"


@dataclass(frozen=True, slots=True)
class Range:
    """A mean, and the bounds between which it lies with a probability of about .95."""

    low: float
    mean: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Range:
        """A value without a doubt."""
        return cls(value, value, value)

    def __mul__(self, factor: float) -> Range:
        return Range(self.low * factor, self.mean * factor, self.high * factor)

    def __add__(self, other: Range) -> Range:
        """Bounds of the sum, where both may err the same way."""
        return Range(self.low + other.low, self.mean + other.mean, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Speed:
    """What bounds the rate: requests under way, seconds for each, and limits a minute, where there are."""

    concurrency: int
    latency_s: Range
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Calls, tokens, US dollars (None without a price) and seconds."""

    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    usd: Range | None
    seconds: Range

    def __add__(self, other: Forecast) -> Forecast:
        """One after the other."""
        return Forecast(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            None if self.usd is None or other.usd is None else self.usd + other.usd,
            self.seconds + other.seconds,
        )


def estimate_run(
    calls: Range,
    prompt: Range,
    completion: Range,
    price: Price | None,
    speed: Speed,
    cached_share: float = 0.0,
) -> Forecast:
    """Forecast `calls` requests of so many tokens each.

    `cached_share` of each prompt is taken to be in the server's cache; 0 is the cautious guess.
    The bounds are those of all ingredients at once, so they are wide rather than narrow.
    """
    prompts, completions = _times(calls, prompt), _times(calls, completion)
    usd = (
        None
        if price is None
        else prompts * _input(price, cached_share) + completions * (price.output / _MILLION)
    )
    tokens = prompts + completions
    bounds = [_times(calls, speed.latency_s) * (1 / speed.concurrency)]
    if speed.requests_per_minute:
        bounds.append(calls * (60 / speed.requests_per_minute))
    if speed.tokens_per_minute:
        bounds.append(tokens * (60 / speed.tokens_per_minute))
    seconds = Range(max(b.low for b in bounds), max(b.mean for b in bounds), max(b.high for b in bounds))
    return Forecast(calls, prompts, completions, usd, seconds)


def _times(a: Range, b: Range) -> Range:
    return Range(a.low * b.low, a.mean * b.mean, a.high * b.high)


def _input(price: Price, cached_share: float) -> float:
    cached = price.input if price.cached_input is None else price.cached_input
    return ((1 - cached_share) * price.input + cached_share * cached) / _MILLION
