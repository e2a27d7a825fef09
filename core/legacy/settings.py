"""The predecessor's settings as they were in force: what the file says, else the default of its version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConfigError
from core.legacy.flat import Flat
from core.legacy.places import Places

Version = Literal["old", "new"]
"""Its first published state, and a later one with more keys and other defaults."""
Kind = Literal["text", "number", "whole", "switch"]
Value = str | float | bool | None
Fields = Mapping[str, Any]
"""Values by the dotted names of our config."""

_WANTED: Mapping[Kind, str] = {
    "text": "a text in quotes",
    "number": "a number",
    "whole": "a whole number",
    "switch": "true or false",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its defaults, and what it is here.

    `fields` are our dotted names, `convert` what is written there; a key without fields has no counterpart,
    and `why` says what to do instead. Of a key with fields `why` says what is otherwise here; where it is
    `quiet`, only if the value is not taken as it is. Where the later version alone has the key, `old` is
    what the first one did.
    """

    name: str
    kind: Kind
    old: Value
    new: Value
    fields: tuple[str, ...] = ()
    why: str = ""
    convert: Convert | None = None
    later: bool = False
    quiet: bool = False

    def default(self, version: Version) -> Value:
        """What was in force where the file had no such key."""
        return self.old if version == "old" else self.new

    def check(self, flat: Flat) -> None:
        """Raise ConfigError where the file gives the key a value of another type."""
        value = flat.values[self.name]
        if value is None and self.new is None:
            return
        if not _is(value, self.kind):
            raise ConfigError(
                f"{flat.place(self.name)}: {self.name} is {value!r:.60}; give {_WANTED[self.kind]}, "
                f"or take the key out, which then counts as {self.new!r}"
            )


@dataclass(frozen=True, slots=True)
class Settings:
    """Every key's value in force; `keys` are all there are."""

    flat: Flat
    version: Version
    keys: Mapping[str, Key]
    places: Places

    def __getitem__(self, name: str) -> Any:
        if name in self.flat.values:
            return self.flat.values[name]
        return self.keys[name].default(self.version)

    def given(self, name: str) -> bool:
        """Whether the file has the key."""
        return name in self.flat.values

    def refuse(self, name: str, why: str) -> ConfigError:
        """The error for a key's value."""
        return ConfigError(f"{self.flat.place(name)}: {name}: {why}")


Convert = Callable[[Settings], Fields]


def _is(value: object, kind: Kind) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "switch":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind == "number" or isinstance(value, int)
