"""JSON files: one canonical form for digests, typed records, UTC timestamps, never NaN."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import DataError

# json.dumps builds an encoder in each call, which takes longer than a short row.
_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode
_line = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> bytes:
    """Return the one byte string of a JSON value: sorted keys, no spaces. Raises ValueError on NaN."""
    return _canonical(value).encode("utf-8", "surrogatepass")


def digest(value: Any) -> str:
    """Return the sha256 of the canonical form, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def as_row(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, not copied."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


def line(row: Mapping[str, Any]) -> str:
    """Return one line of JSON, with its line end. Raises ValueError on NaN."""
    return _line(row) + "\n"


def indented(value: Any, indent: int = 2) -> str:
    """Return the text of a JSON file for people. Raises ValueError on NaN: an undefined number is null."""
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write one value, indented. Raises ValueError on NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(indented(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return the value in a file that this project wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one row per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with LinesWriter(path) as out:
        for row in rows:
            out.write(row)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that this project wrote; files of others need `core.data.tables`."""
    with path.open(encoding="utf-8", newline="\n") as f:
        for text in f:
            yield json.loads(text)


class LinesWriter:
    """A JSON-lines file that is written one row at a time; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> LinesWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Write one row. Raises ValueError on NaN."""
        self._file.write(line(row))


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
        """Read a file that this project wrote. Raises InvalidFile as `from_json` does."""
        return cls.from_json(read_json(path), str(path))

    def write(self, path: Path) -> None:
        """Write the record as an indented JSON file. Raises ValueError on NaN."""
        write_json(path, self.to_json())


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
        return model.model_validate(json.loads(data, parse_constant=constants.append)), bool(constants)
    except ValidationError as e:
        raise InvalidFile(message(e)) from e
    except (ValueError, RecursionError) as e:
        raise InvalidFile(f"not JSON ({' '.join(str(e).split())[:120]})") from e


@dataclasses.dataclass(frozen=True, slots=True)
class FieldError:
    """The first mistake that pydantic found: its type there, the path of the field, and what is wrong."""

    type: str
    path: tuple[str, ...]
    text: str
    found: Any
    expected: str

    @classmethod
    def of(cls, error: ValidationError) -> FieldError:
        """The first mistake; items of a list are called record 1, record 2 and so on."""
        first = error.errors(include_url=False)[0]
        path = tuple(f"record {part + 1}" if isinstance(part, int) else part for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        return cls(first["type"], path, text, first["input"], str(first.get("ctx", {}).get("expected", "")))


def message(error: ValidationError) -> str:
    """Describe the first mistake as `field: what is wrong, found value`."""
    first = FieldError.of(error)
    if first.path == ("version",) and first.type == "literal_error":
        return (
            f"format version {first.found!r} is unknown, this code reads {first.expected}; the file was "
            "written by a newer version of Understudy: upgrade to read it"
        )
    text = first.text[:1].lower() + first.text[1:]
    if first.type != "missing" and not isinstance(first.found, dict | list):
        text += f", found {first.found!r}"[:80]
    return f"{'.'.join(first.path)}: {text}" if first.path else text
