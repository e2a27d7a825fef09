"""What every section of the config shares: frozen, no unknown keys, a sentence under each field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen section. The sentence under a field is its description, in errors and in docs."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        strict=False,
        allow_inf_nan=False,
        validate_default=True,
        # What Prefect's form calls a field: its key, where pydantic has no title for a section.
        field_title_generator=lambda name, _: name,
    )

    def key_extras(self) -> dict[str, Any]:
        """Return what belongs into a cache key besides the fields, for instance the version of other code."""
        return {}


@dataclass(frozen=True)
class NotInKey:
    """Marks a field that does not decide a stage's output, with the reason why it cannot.

    Keys are opt-out: a field without this mark moves the key of its stage, so forgetting one
    costs a re-run and never a stale result.
    """

    reason: str
    by_content: bool = False
    """Whether what the field names is in the key instead; it then still tells one run from another."""


CONTENT = NotInKey("a path: the digest of what it holds is in the key instead", by_content=True)


def key_fields(section: BaseModel) -> dict[str, Any]:
    """The fields of `section` that belong into a cache key, nested sections included."""
    out: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        if any(isinstance(mark, NotInKey) for mark in info.metadata):
            continue
        out[name] = _plain(getattr(section, name))
    return {**out, **section.key_extras()} if isinstance(section, Section) else out


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return key_fields(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))}
    return value
