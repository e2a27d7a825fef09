"""An endpoint that completes chat requests: address, model, limits, budget and prices."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from core.config.base import ConfigSection, NotInKey

SPEED = NotInKey("speed does not affect the output")
MONEY = NotInKey("money does not affect the output")
TokenLimitName = Literal["max_tokens", "max_completion_tokens"]
"""How an endpoint names the token limit of a request."""


class BreakerConfig(ConfigSection):
    """When a failing endpoint is given up. A 429 is not a failure."""

    failures: Annotated[int, SPEED] = Field(20, ge=1)
    """This many consecutive requests without an answer ..."""
    patience_s: Annotated[float, SPEED] = Field(120.0, ge=0)
    """... over at least this many seconds: many fail together in one hiccup."""
    window: Annotated[int, SPEED] = Field(200, ge=1)
    """Or: of this many last requests ..."""
    rate: Annotated[float, SPEED] = Field(0.5, gt=0, le=1)
    """... this share failed, for as many seconds."""


class LimitsConfig(ConfigSection):
    """Rate limits, timeouts and retries of an endpoint."""

    concurrency: Annotated[int, SPEED] = Field(256, ge=1)
    """Maximum number of requests in flight; fewer while the endpoint refuses or slows down."""
    requests_per_minute: Annotated[float | None, SPEED] = Field(None, gt=0)
    """Maximum number of requests in any minute; by default what the endpoint accepts."""
    tokens_per_minute: Annotated[float | None, SPEED] = Field(None, gt=0)
    """Maximum number of tokens a minute, prompts and answers; by default what the endpoint accepts."""
    connect_timeout_s: Annotated[float, SPEED] = Field(10.0, gt=0)
    """Seconds to connect."""
    read_timeout_s: Annotated[float, SPEED] = Field(300.0, gt=0)
    """Maximum seconds without a byte of the answer."""
    total_timeout_s: Annotated[float, SPEED] = Field(900.0, gt=0)
    """Maximum seconds for one request."""
    tries: Annotated[int, SPEED] = Field(8, ge=1)
    """How often one request is sent if the failure may pass: 8 tries outlast an outage of a minute."""
    breaker: BreakerConfig = BreakerConfig()
    """When the endpoint is given up."""


class BudgetConfig(ConfigSection):
    """What a run may spend at an endpoint, including earlier starts of the same run."""

    usd: Annotated[float | None, MONEY] = Field(None, gt=0)
    """US dollars, by the table in `prices`; by default any sum."""
    tokens: Annotated[int | None, MONEY] = Field(None, ge=1)
    """Tokens, prompts and answers together; by default any number."""


class Endpoint(ConfigSection):
    """Where chat requests are sent and what bounds them; see core.completions.

    The fields are those of `teacher:`, and `section` is the config section that error messages name.
    """

    model: str = Field(min_length=1)
    base_url: str
    max_tokens: int = Field(4096, ge=1)
    api_key_env: str | None = None
    token_limit: TokenLimitName = "max_tokens"
    extra_body: dict[str, Any] = {}
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig = BudgetConfig()
    canary: int | None = Field(50, ge=1)
    prices: str | None = None
    section: str = "teacher"


def wrong_url(url: str) -> str | None:
    """Return why a URL is not an endpoint's, or None; never quotes the URL, which may contain a password."""
    if any(c.isspace() or not c.isprintable() for c in url):
        return "contains a space or a line break"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as e:
        return f"is not a URL ({e})"
    if parts.scheme.lower() not in ("http", "https") or not host:
        return "must begin with http:// or https:// and name a host"
    if parts.username is not None or parts.password is not None:
        return (
            "contains a user or a password, which would appear in logs; put the key in the variable that "
            "api_key_env names"
        )
    if parts.query or parts.fragment:
        return "contains ? or #, after which no path can follow; extra fields go into extra_body"
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return "ends in /chat/completions, which is added to it"
    return None
