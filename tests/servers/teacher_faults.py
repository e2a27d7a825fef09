"""How the teacher's server fails: the bodies of real services, and what becomes of an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import get_args

from tests.servers.teacher_answers import Answer
from tests.servers.teacher_orders import Change, Delivery, Fault, Refusal

REFUSALS = frozenset(get_args(Refusal))
CHANGES = frozenset(get_args(Change))
DELIVERIES = frozenset(get_args(Delivery))
NEEDS_FORMAT = {
    "no_schema": ("json_schema",),
    "schema_unavailable": ("json_schema",),
    "no_response_format": ("json_schema", "json_object"),
    "schema_ignored": ("json_schema", "json_object"),
}
HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"


@dataclass(frozen=True, slots=True)
class Error:
    """A refusal as it is sent."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None

    def body(self, model: str) -> bytes:
        """The JSON body, with the name of the model that was asked for."""
        message = self.message.replace("{model}", model)
        error = {"message": message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


INVALID = "invalid_request_error"
ERRORS: dict[str, Error] = {
    "server_error": Error(
        500, "The server had an error while processing your request. Sorry about that!", "server_error"
    ),
    "unavailable": Error(
        503, "Service is too busy. Please retry your request later.", "service_unavailable_error"
    ),
    "unauthorized": Error(401, "Incorrect API key provided: sk-***.", INVALID, "invalid_api_key"),
    "no_balance": Error(402, "Insufficient Balance", "unknown_error", INVALID),
    "forbidden": Error(
        403,
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    "unknown_model": Error(
        404,
        "The model `{model}` does not exist or you do not have access to it.",
        INVALID,
        "model_not_found",
    ),
    "no_quota": Error(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "rate_limited": Error(
        429, "Rate limit reached for {model}. Please try again later.", "requests", "rate_limit_exceeded"
    ),
    "too_long": Error(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 "
        "tokens. Please reduce the length of the messages.",
        INVALID,
        "context_length_exceeded",
        "messages",
    ),
    "prompt_filtered": Error(
        400,
        "The response was filtered due to the prompt triggering the content management policy.",
        INVALID,
        "content_filter",
        "prompt",
    ),
    "no_schema": Error(
        400,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        INVALID,
    ),
    "schema_unavailable": Error(400, "This response_format type is unavailable now", INVALID, INVALID),
    "no_response_format": Error(
        400, "Unrecognized request argument supplied: response_format", INVALID, None, "response_format"
    ),
}


def bad_request(message: str, param: str | None = None) -> Error:
    """What a request gets that the server cannot read."""
    return Error(400, message, INVALID, None, param)


class Faults:
    """The faults that were told, and how many requests each has hit; `before` were told earlier."""

    def __init__(self, told: Sequence[Fault], before: Faults | None = None) -> None:
        self.told = tuple(told)
        self._hits = [0] * len(self.told)
        if before is not None and self.told[: len(before.told)] == before.told:
            self._hits[: len(before.told)] = before._hits

    def hit(self, id: str, asking: int, response_format: str) -> Fault | None:
        """The first fault that hits the `asking`th request for this text."""
        for i, fault in enumerate(self.told):
            if fault.first is not None and self._hits[i] >= fault.first:
                continue
            if fault.ids is not None and id not in fault.ids:
                continue
            if response_format not in _formats(fault, response_format):
                continue
            if fault.rate < 1 and _draw(f"{fault.seed}:{i}:{asking}:{id}") >= fault.rate:
                continue
            self._hits[i] += 1
            return fault
        return None


def _formats(fault: Fault, response_format: str) -> Collection[str]:
    """The formats of the requests that it hits."""
    if fault.kind == "format_rejected":
        return fault.formats
    return NEEDS_FORMAT.get(fault.kind, (response_format,))


def refusal(fault: Fault) -> Error:
    """What a request that it hits is refused with."""
    if fault.kind == "format_rejected":
        return Error(fault.status, fault.content, "error", fault.code)
    return ERRORS[fault.kind]


def _draw(name: str) -> float:
    """A number from 0 to 1, always the same for the same name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) / 2**64


def change(answer: Answer, fault: Fault) -> Answer:
    """The answer as this fault leaves it; as it is for faults that leave the content alone."""
    content, kind = answer.content, fault.kind
    changed = {
        "length": Answer(content[: len(content) // 2], "length"),
        "broken_json": Answer(content.replace('"', "'").replace(":", " =") + "}"),
        "content_filter": Answer("", "content_filter"),
        "overloaded": Answer(content[: len(content) // 2], "insufficient_system_resource"),
        "empty_content": Answer(""),
        "written": Answer(fault.content, fault.finish_reason),
        "schema_ignored": Answer(f"Here is my answer:\n```json\n{content}\n```\nLet me know!"),
    }
    return changed.get(kind, answer)
