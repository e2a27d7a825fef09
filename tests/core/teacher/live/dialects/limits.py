"""How long servers ask to wait, and what is left of their limits, by the headers of a reply."""

# ruff: noqa: E501
from __future__ import annotations

from typing import NamedTuple

from core.completions.failures import RateLimit

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
"""The server's clock in all rows; 1767225600 seconds after 1970."""
_OPENAI = "https://community.openai.com/t/how-to-get-rate-limit-reset-time-for-response-api/1268905"
_MOCK = "https://mock-server.com/versions/7.1.0/apidocs/org/mockserver/llm/LlmRateLimitHeaders.html"
_ANTHROPIC = "https://docs.anthropic.com/de/api/rate-limits"
_ANTHROPIC_RESET = "https://www.github.com/anthropics/anthropic-sdk-typescript/issues/357"
_OPENROUTER = "https://openrouter.ai/docs/api/errors"
_DIGITALOCEAN = "https://docs.digitalocean.com/products/inference/reference/quota-specific-response-headers/"
_TOGETHER = "https://www.skills.sh/jeremylongshore/tons-of-skills-marketplace/together-rate-limits/security/agent-trust-hub"
_NOUS = "https://raw.githubusercontent.com/nousresearch/hermes-agent/main/agent/rate_limit_tracker.py"


class Wait(NamedTuple):
    """`seconds` is what a failed reply with these headers asks to wait."""

    server: str
    source: str
    headers: dict[str, str]
    seconds: float | None


class Left(NamedTuple):
    """`requests` and `tokens` are the limits that a reply with these headers states."""

    server: str
    source: str
    headers: dict[str, str]
    requests: RateLimit | None = None
    tokens: RateLimit | None = None


WAITS = [
    Wait("OpenAI", _OPENAI, {"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    Wait("OpenAI", _OPENAI, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12ms"}, 0.012),
    Wait("OpenAI", _OPENAI, {"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "12ms"}, None),
    Wait("OpenRouter", _OPENROUTER, {"retry-after": "20"}, 20),
    Wait("OpenRouter", _OPENROUTER, {"retry-after": "6m0s"}, 360),
    Wait("OpenRouter", _OPENROUTER, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225630500"}, 30.5),
    Wait("Anthropic", _ANTHROPIC_RESET, {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:20Z", "anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:40Z"}, 40),
    Wait("Anthropic", _ANTHROPIC_RESET, {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:20Z", "anthropic-ratelimit-tokens-remaining": "5", "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:40Z"}, 20),
    Wait("DigitalOcean", _DIGITALOCEAN, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1767225607"}, 7),
    Wait("a date", _MOCK, {"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, 60),
    Wait("a date that is over", _MOCK, {"retry-after": "Wed, 31 Dec 2025 23:00:00 GMT"}, 0),
    Wait("nonsense", _MOCK, {"retry-after": "soon", "x-ratelimit-remaining": "none"}, None),
]  # fmt: skip

LEFT = [
    Left("OpenAI", _OPENAI, {"x-ratelimit-limit-requests": "5000", "x-ratelimit-remaining-requests": "4999", "x-ratelimit-reset-requests": "12ms", "x-ratelimit-limit-tokens": "160000", "x-ratelimit-remaining-tokens": "159976", "x-ratelimit-reset-tokens": "6m0s"}, RateLimit(5000, 4999, 0.012), RateLimit(160000, 159976, 360)),
    Left("Nous", _NOUS, {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "30.5"}, RateLimit(60, 59, 30.5)),
    Left("Anthropic", _ANTHROPIC, {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49", "anthropic-ratelimit-requests-reset": "2026-01-01T00:01:00Z", "anthropic-ratelimit-tokens-limit": "9000", "anthropic-ratelimit-tokens-remaining": "8000", "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:30+00:00"}, RateLimit(50, 49, 60), RateLimit(9000, 8000, 30)),
    Left("DigitalOcean", _DIGITALOCEAN, {"x-ratelimit-limit-requests": "50", "x-ratelimit-remaining-requests": "49", "x-ratelimit-reset-requests": "1767225601"}, RateLimit(50, 49, 1)),
    Left("Together", _TOGETHER, {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "9", "x-ratelimit-reset": "1", "x-tokenlimit-limit": "300", "x-tokenlimit-remaining": "200", "x-tokenlimit-reset": "1"}, RateLimit(10, 9, 1), RateLimit(300, 200, 1)),
    Left("a limit of a day", _OPENROUTER, {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "49", "x-ratelimit-reset": "1767290000"}),
]  # fmt: skip
