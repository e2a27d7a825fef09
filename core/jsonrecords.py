"""Typed records of JSON files: a frozen base model, and a parser with one-line messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Mistake:
    """The first mistake that pydantic found: its type there, the path of the field, and what is wrong."""

    type: str
    path: tuple[str, ...]
    text: str
    found: Any
    expected: str

    @classmethod
    def of(cls, error: ValidationError) -> Mistake:
        """Return the first mistake; items of a list are called record 1, record 2 and so on."""
        first = error.errors(include_url=False)[0]
        path = tuple(f"record {part + 1}" if isinstance(part, int) else part for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        return cls(first["type"], path, text, first["input"], str(first.get("ctx", {}).get("expected", "")))


def message(error: ValidationError) -> str:
    """Describe the first mistake as `field: what is wrong, found value`."""
    first = Mistake.of(error)
    if first.path == ("version",) and first.type == "literal_error":
        return (
            f"format version {first.found!r} is unknown, this code reads {first.expected}; the file was "
            "written by a newer version of Understudy: upgrade to read it"
        )
    text = first.text[:1].lower() + first.text[1:]
    if first.type != "missing" and not isinstance(first.found, dict | list):
        text += f", found {first.found!r}"[:80]
    return f"{'.'.join(first.path)}: {text}" if first.path else text
