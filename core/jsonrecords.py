"""Typed records of JSON files: a frozen base model, and a parser with one-line messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core import jsonio
from core.errors import DataError


class InvalidFile(DataError):
    """A JSON file that does not have the expected content; the message names the field."""


class Record(BaseModel):
    """A frozen record of a JSON file. Unknown fields are ignored, NaN is refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that is written."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, value: Any, place: str) -> Self:
        """Return the record in a JSON value. Raises InvalidFile, which names `place` and the field."""
        try:
            return cls.model_validate(value)
        except ValidationError as e:
            raise InvalidFile(f"{place}: {message(e)}") from e

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the record in a file that this project wrote. Raises InvalidFile as `from_json` does."""
        return cls.from_json(jsonio.read_json(path), str(path))

    def write(self, path: Path) -> None:
        """Write the record as an indented JSON file. Raises ValueError on NaN."""
        jsonio.write_json(path, self.to_json())


class Stored(Record):
    """A result as a stage writes it to JSON. Fields that are left unset are not written."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that is written."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


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
