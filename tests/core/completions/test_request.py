"""Request keys depend on everything that decides the answer, but not on its spelling."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from core.completions.chat import ChatRequest, PreparedRequest, normalized
from core.config import Endpoint
from core.prompts import Message

DEFAULTS: dict[str, Any] = {
    "endpoint": "https://api.example.com/v1",
    "model": "teacher",
    "messages": (Message("system", "You label."), Message("user", "Hello")),
    "attempt": 0,
    "temperature": 0.0,
    "max_tokens": 512,
    "output_format": "json_schema",
    "extra": {"seed": 1, "stop": ["\n\n"]},
    "schema_digest": None,
}


def prepared(**changes: Any) -> PreparedRequest:
    """A request that differs from the others in `changes`."""
    given = {**DEFAULTS, **changes}
    request = ChatRequest("id", given["messages"], given["attempt"], given["temperature"])
    endpoint = Endpoint.model_construct(
        base_url=given["endpoint"], model=given["model"], extra_body=given["extra"]
    )
    return PreparedRequest(
        request, endpoint, given["max_tokens"], given["output_format"], given["schema_digest"]
    )


BASE = prepared()
CHANGES: list[tuple[str, Any]] = [
    ("endpoint", "https://api.example.com/v2"),
    ("endpoint", "http://api.example.com/v1"),
    ("endpoint", "https://api.example.com:8443/v1"),
    ("endpoint", "https://api.example.com/V1"),
    ("endpoint", "https://api.example.com/v1?api-version=2"),
    ("model", "teacher-2"),
    ("messages", (Message("system", "You label."),)),
    ("messages", (Message("user", "You label."), Message("user", "Hello"))),
    ("messages", (Message("user", "Hello"), Message("system", "You label."))),
    ("messages", (Message("system", "You label."), Message("user", "Hello "))),
    ("attempt", 1),
    ("temperature", 0.7),
    ("max_tokens", 513),
    ("output_format", "tags"),
    ("extra", {}),
    ("extra", {"seed": 2, "stop": ["\n\n"]}),
    ("extra", {"seed": 1, "stop": ["\n\n"], "top_p": 0.9}),
    ("schema_digest", "0123456789abcdef"),
]


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_every_change_of_a_request_changes_its_key(name: str, value: Any) -> None:
    assert prepared(**{name: value}).key != BASE.key


def test_the_changes_cover_every_part_of_a_request() -> None:
    assert {name for name, _ in CHANGES} == DEFAULTS.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", "https://api.example.com/v1/"),
        ("endpoint", "HTTPS://API.Example.com/v1"),
        ("endpoint", " https://api.example.com:443/v1 "),
        ("endpoint", "https://me:secret@api.example.com/v1"),
        ("temperature", 0),
        ("temperature", -0.0),
        ("extra", {"stop": ["\n\n"], "seed": 1}),
        ("extra", {"stop": ("\n\n",), "seed": 1}),
    ],
)
def test_spellings_of_one_request_have_one_key(name: str, value: Any) -> None:
    assert prepared(**{name: value}).key == BASE.key


def test_key_is_32_hex_digits_and_equal_in_every_process() -> None:
    assert BASE.key == "d4c2eaeed7d68a711f8af5c20d5ad276"


def test_any_text_has_a_key() -> None:
    texts = ["", "한국어", "half a pair \ud800", "\x00"]
    keys = {prepared(messages=(Message("user", t),)).key for t in texts}
    assert len(keys) == len(texts)


def test_content_that_is_not_json_is_rejected() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = prepared(extra={"top_p": float("nan")}).key


def test_ipv6_address_keeps_its_brackets_and_port() -> None:
    assert normalized("http://[::1]:8000/v1/") == "http://[::1]:8000/v1"


def test_keys_by_limit_equal_the_keys_of_such_requests() -> None:
    requests = [
        BASE,
        prepared(extra={}, temperature=None, messages=(Message("user", "\ud800"),)),
    ]
    for request in requests:
        for limit, key in request.keys_by_limit([1, 512, 100_000]):
            assert key == dataclasses.replace(request, max_tokens=limit).key
