"""What else a run says of itself: its config, its cost, the code that made it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from core.provenance import FILE as MAKER
from core.store.runs import CONFIG, SUMMARY
from core.summary.checking import Unusable, count, mapping, number, parse, text
from core.summary.folders import PassedOver, RunFolder

LEDGER = "ledger.json"
PREDECESSOR = "resolved_config.json"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast, where PyYAML was built with libyaml."""
_STUDENT = re.compile(rb"^student:.*(?:\n(?:[ #].*)?)*", re.MULTILINE)
"""One section of many, since YAML is what takes longest; a resolved config is always in blocks."""


@dataclass(frozen=True, slots=True)
class Facts:
    """None is not written, or not readable. `usd` is US dollars, `seconds` those of all stages."""

    engine: str | None = None
    base_model: str | None = None
    target: str | None = None
    teacher_kind: str | None = None
    teacher_model: str | None = None
    best_step: int | None = None
    usd: float | None = None
    teacher_tokens: int | None = None
    trained_tokens: int | None = None
    prefilled_tokens: int | None = None
    sampled_tokens: int | None = None
    seconds: float | None = None
    version: str | None = None
    commit: str | None = None


def facts(folder: RunFolder, contents: Mapping[str, bytes]) -> tuple[Facts, list[PassedOver]]:
    """The facts in the files that are there; `contents` are bytes by path under the root."""
    found: dict[str, Any] = {}
    passed = []
    for name, read in READERS.items():
        path = folder.at(name)
        if path not in contents:
            continue
        try:
            found |= read(contents[path])
        except Unusable as e:
            passed.append(PassedOver(path, str(e)))
    return Facts(**found), passed


def _config(data: bytes) -> dict[str, Any]:
    section = _STUDENT.search(data)
    if section is None:
        raise Unusable("it has no section student")
    try:
        value = yaml.load(section[0], Loader=_Loader)  # nosec B506  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise Unusable(f"not YAML ({' '.join(str(e).split())[:120]})") from e
    student = mapping(mapping(value, "it").get("student"), "student")
    names = {"engine": "engine", "base_model": "model", "target": "target"}
    return {fact: text(student.get(key), f"student.{key}") for fact, key in names.items()}


def _summary(data: bytes) -> dict[str, Any]:
    value = mapping(parse(data)[0], "it")
    teacher = _part(value, "teacher_summary")
    return {
        "best_step": count(value.get("best_step"), "best_step"),
        "teacher_kind": text(teacher.get("teacher_kind"), "teacher_kind"),
        "teacher_model": text(teacher.get("teacher_model"), "teacher_model"),
    }


def _ledger(data: bytes) -> dict[str, Any]:
    value = mapping(parse(data)[0], "it")
    student = _part(value, "student")
    names = ("trained_tokens", "prefilled_tokens", "sampled_tokens")
    return {
        "usd": number(value.get("usd"), "usd"),
        "seconds": _seconds(_part(value, "seconds")),
        "teacher_tokens": _teacher_tokens(_part(value, "teacher")),
        **{name: count(student.get(name), f"student.{name}") for name in names},
    }


def _maker(data: bytes) -> dict[str, Any]:
    value = mapping(parse(data)[0], "it")
    return {name: text(value.get(name), name) for name in ("version", "commit")}


def _predecessor(data: bytes) -> dict[str, Any]:
    """What is certain of a run of the predecessor's: the file has its settings from before the student's
    flags, so the base model may have been another."""
    value = mapping(parse(data)[0], "it")
    teacher = text(value.get("teacher_model"), "teacher_model")
    return {"engine": "tinker", "target": "reason_first", "teacher_kind": "openai", "teacher_model": teacher}


def _teacher_tokens(teacher: Mapping[str, Any]) -> int | None:
    names = ("prompt_tokens_of_the_run", "completion_tokens_of_the_run")
    given = [v for name in names if (v := count(teacher.get(name), f"teacher.{name}")) is not None]
    return sum(given) if given else None


def _seconds(stages: Mapping[str, Any]) -> float | None:
    given = [v for name, s in stages.items() if (v := number(s, f"seconds.{name}")) is not None]
    return sum(given) if given else None


def _part(of: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section that may be absent or null."""
    value = of.get(name)
    return {} if value is None else mapping(value, name)


READERS: Mapping[str, Callable[[bytes], dict[str, Any]]] = {
    CONFIG: _config,
    SUMMARY: _summary,
    LEDGER: _ledger,
    MAKER: _maker,
    PREDECESSOR: _predecessor,
}
"""Places in a run's folder, and what is read there."""
