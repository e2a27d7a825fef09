"""Typed records of JSON files: a frozen base model, and a parser with one-line messages."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import DataError


class InvalidFile(DataError):
    """A JSON file that does not have the expected content; the message names the field."""


class Record(BaseModel):
    """A frozen record of a JSON file. Unknown fields are ignored, NaN is refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that is written."""
        return self.model_dump(mode="json", by_alias=True)


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], data: bytes) -> tuple[Model, bool]:
    """Validate the bytes of a JSON file; also return whether NaN or infinities were read as None.

    Raises InvalidFile with the first mistake.
    """
    try:
        return model.model_validate_json(data), False
    except ValidationError as e:
        if not any(error["type"] in ("json_invalid", "finite_number") for error in e.errors()):
            raise InvalidFile(message(e)) from e
    # The json module accepts NaN, which other tools write; it is slower, and rarely needed.
    constants: list[str] = []
    try:
        value = json.loads(data, parse_constant=constants.append)
    except (ValueError, RecursionError) as e:
        raise InvalidFile(f"not JSON ({' '.join(str(e).split())[:120]})") from e
    try:
        return model.model_validate(value), bool(constants)
    except ValidationError as e:
        raise InvalidFile(message(e)) from e


def message(error: ValidationError) -> str:
    """Describe the first mistake as `field: what is wrong, found value`."""
    first = error.errors(include_url=False)[0]
    loc = first["loc"]
    if loc and isinstance(loc[0], int):
        loc = (f"record {loc[0] + 1}", *loc[1:])
    field = ".".join(str(part) for part in loc)
    if field == "version" and first["type"] == "literal_error":
        return (
            f"format version {first['input']!r} is unknown, this code reads {first['ctx']['expected']}; "
            "the file was written by a newer version of Understudy: upgrade to read it"
        )
    what = first["msg"].removeprefix("Value error, ")
    what = what[:1].lower() + what[1:]
    if first["type"] != "missing" and not isinstance(first["input"], dict | list):
        what += f", found {first['input']!r}"[:80]
    return f"{field}: {what}" if field else what
