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

from core import locations
from core.config import ConfigSection, Endpoint, LimitsConfig
from core.config.loading import read_source
from core.errors import ConfigError

log = logging.getLogger(__name__)

_MILLION = 1_000_000
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer as the server counts them; `cached` are a part of `prompt`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: Usage) -> Usage:
        completion, cached = self.completion + other.completion, self.cached + other.cached
        return Usage(self.prompt + other.prompt, completion, cached)

    def __sub__(self, other: Usage) -> Usage:
        completion, cached = self.completion - other.completion, self.cached - other.cached
        return Usage(self.prompt - other.prompt, completion, cached)


class Price(ConfigSection):
    """US dollars per million tokens."""

    input: float = Field(ge=0)
    """Of the prompt, except its cached part."""
    cached_input: float | None = Field(None, ge=0)
    """Of the part of the prompt in the server's cache; by default as `input`."""
    output: float = Field(ge=0)
    """Of the completion."""

    def of_input(self, cached_share: float) -> float:
        """Return the mean price of prompts with a share of cached tokens."""
        cached = self.input if self.cached_input is None else self.cached_input
        return (1 - cached_share) * self.input + cached_share * cached


class TrainingPrice(ConfigSection):
    """US dollars per million tokens on a training server."""

    train: float = Field(ge=0)
    """Forward, backward and update."""
    prefill: float = Field(ge=0)
    """Prompts of samples and scores."""
    sample: float = Field(ge=0)
    """Generated."""

    def usd(self, trained: int, prefilled: int, sampled: int) -> float:
        """Return the cost of tokens in US dollars."""
        dollars = trained * self.train + prefilled * self.prefill + sampled * self.sample
        return dollars / _MILLION


class PriceTable(ConfigSection):
    """Prices of models, by name or pattern."""

    as_of: dt.date
    """The day of the prices."""
    source: str
    """The page or offer that lists them."""
    models: dict[str, Price]
    """By the model's name at the endpoint, with * and ? for any characters."""
    students: dict[str, TrainingPrice] = {}
    """Of training servers, by the base model's name there."""

    def price_of(self, model: str) -> Price | None:
        """Return the price of the nearest name, or None."""
        for name in (model, _DATED.sub("", model)):
            fitting = [pattern for pattern in self.models if fnmatchcase(name, pattern)]
            if fitting:
                return self.models[max(fitting, key=lambda p: (p == name, len(p), p))]
        return None


def price_of(endpoint: Endpoint) -> Price | None:
    """Return the price of an endpoint's model; None to count tokens only, with a warning if a table lacks it.

    Raises ConfigError if a budget in money needs a price and there is none.
    """
    model, path, section = endpoint.model, endpoint.prices, endpoint.section
    price = None if path is None else load_prices(path, f"{section}.prices").price_of(model)
    if price is None and endpoint.budget.usd is not None:
        raise ConfigError(
            f"{section}.budget.usd needs a price of {model}, and {path or f'{section}.prices: null'} "
            f"has none; add it to the file that {section}.prices names, or set {section}.budget.tokens"
        )
    if price is None and path is not None:
        message = "%s has no price of %s: tokens are counted and money is not; add a line under models"
        log.warning(message, path, model)
    return price


def load_prices(path: str | Path, setting: str = "teacher.prices") -> PriceTable:
    """Read the price table that a config's `setting` names; the package has one of its own (core.locations).

    Raises ConfigError, in one sentence, with file and line.
    """
    found = locations.default_file(str(path), "prices")
    if not found.is_file():
        raise ConfigError(f"no price table at {found.absolute()}; set {setting} to one, or to null")
    source = read_source(found)
    try:
        return PriceTable.model_validate_json(json.dumps(source.values, default=str), strict=True)
    except ValidationError as e:
        first = e.errors()[0]
        key = tuple(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f", not {first['input']!r:.40}"
        message = f"{source.place(key)}: {'.'.join(key)}: {first['msg'].removeprefix('Input ')}{given}"
        raise ConfigError(f"{message}; see configs/prices.yaml for an example") from None


def cost(usage: Usage, price: Price | None) -> float:
    """Return the cost in US dollars; 0 without a price."""
    if price is None:
        return 0.0
    cached = price.input if price.cached_input is None else price.cached_input
    fresh = usage.prompt - usage.cached
    return (fresh * price.input + usage.cached * cached + usage.completion * price.output) / _MILLION


@dataclass(frozen=True, slots=True)
class Range:
    """A mean with bounds of about 95 % probability."""

    low: float
    mean: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Range:
        return cls(value, value, value)

    def __mul__(self, factor: float | Range) -> Range:
        by = factor if isinstance(factor, Range) else Range.exact(factor)
        return Range(self.low * by.low, self.mean * by.mean, self.high * by.high)

    def __add__(self, other: Range) -> Range:
        """Bounds of the sum if both err in the same direction."""
        return Range(self.low + other.low, self.mean + other.mean, self.high + other.high)


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
    limits: LimitsConfig,
    latency_s: Range,
    cached_share: float = 0.0,
) -> Forecast:
    """Forecast `calls` requests of so many tokens and seconds each, within `limits`.

    `cached_share` of each prompt is assumed to be in the server's cache; 0 is the cautious assumption.
    The bounds combine those of all ingredients at once, so they are wide rather than narrow.
    """
    prompts, completions = calls * prompt, calls * completion
    usd = None
    if price is not None:
        usd = prompts * (price.of_input(cached_share) / _MILLION) + completions * (price.output / _MILLION)
    tokens = prompts + completions
    bounds = [calls * latency_s * (1 / limits.concurrency)]
    if limits.requests_per_minute:
        bounds.append(calls * (60 / limits.requests_per_minute))
    if limits.tokens_per_minute:
        bounds.append(tokens * (60 / limits.tokens_per_minute))
    seconds = Range(max(b.low for b in bounds), max(b.mean for b in bounds), max(b.high for b in bounds))
    return Forecast(calls, prompts, completions, usd, seconds)
