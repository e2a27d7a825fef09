"""From the predecessor's config to one of ours: what was taken over, and the list of what was not."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.config.loading import validate
from core.config.reading import KeyPath, Source
from core.errors import ConfigError
from core.legacy import prompts
from core.legacy.conversions import columns_of
from core.legacy.flat import Flat, read
from core.legacy.keys import FIXED, KEYS
from core.legacy.places import Places
from core.legacy.settings import Key, Settings, Version
from core.teacher.answer_file import source_of

Defaults = Literal["auto", "old", "new"]
What = Literal["left out", "otherwise", "unknown", "missing"]


@dataclass(frozen=True, slots=True)
class Remark:
    """A line of the list: a key that was left out, means something else here, or is not known; or a path
    that leads nowhere."""

    what: What
    place: str
    key: str
    said: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Our values and where each comes from, both by dotted name, and what else the file said.

    `prompts` is a prompts file for `prompts.file`, where the predecessor's could be written in our form.
    """

    flat: Flat
    version: Version
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    remarks: tuple[Remark, ...]
    prompts: str | None

    @property
    def mapped(self) -> int:
        """How many keys of the file are in force."""
        left_out = {r.key for r in self.remarks if r.what in ("left out", "unknown")}
        return len(self.flat.values.keys() - left_out)


def import_config(
    path: Path, *, prompts_file: Path, defaults: Defaults = "auto", answers: Path | None = None
) -> Imported:
    """Read the predecessor's config and say all of it in our terms.

    `prompts_file` is where a prompts file in our form would go, `answers` the folder of a run of its, or a
    file of it, whose answers and splits are taken instead of a live teacher and the dataset. Raises
    ConfigError with place and remedy for a file that is no such config, and for values that no version
    could have worked with.
    """
    flat = read(path)
    version: Version = _version(flat) if defaults == "auto" else defaults
    for name in flat.values:
        if name in KEYS:
            KEYS[name].check(flat)
    settings = Settings(flat, version, KEYS, Places(path, Path.cwd()))
    found = Imported(flat, version, *_mapped(settings), tuple(_remarks(settings)), None)
    found = _with_prompts(found, settings, prompts_file)
    if answers is not None:
        found = _with_answers(found, answers)
    _validate(found)
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name as the sections of a config."""
    out: dict[str, Any] = {}
    for dotted, value in values.items():
        *sections, name = dotted.split(".")
        at = out
        for section in sections:
            at = at.setdefault(section, {})
        at[name] = value
    return out


def _version(flat: Flat) -> Version:
    """By the keys that only the later one has."""
    return "new" if any(name in KEYS and KEYS[name].later for name in flat.values) else "old"


def _mapped(s: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {name: value for name, (value, _) in FIXED.items()}
    origins = {name: why for name, (_, why) in FIXED.items()}
    for key in KEYS.values():
        for field, value in (key.convert(s) if key.convert else {}).items():
            values[field] = value
            if field not in origins or s.given(key.name):
                origins[field] = key.name if s.given(key.name) else f"{key.name}, by default"
    return values, origins


def _remarks(s: Settings) -> Iterator[Remark]:
    for name, value in s.flat.values.items():
        place = s.flat.place(name)
        if name not in KEYS:
            yield Remark("unknown", place, name, _nearest(name))
        elif not KEYS[name].fields:
            yield Remark("left out", place, name, f"{_shown(value)}: {KEYS[name].why}")
        elif value is not None and _differs(KEYS[name], s):
            said = ", ".join(KEYS[name].fields)
            yield Remark("otherwise", place, name, f"{said}: {KEYS[name].why}")
    yield from _nowhere(s)


def _differs(key: Key, s: Settings) -> bool:
    """Whether what is otherwise here has to be said. Of prompts it is said where they are converted."""
    if not key.why or key.name == "prompt_file":
        return False
    found = key.convert(s) if key.convert and key.quiet else {}
    return not key.quiet or any(value != s[key.name] for value in found.values())


def _nowhere(s: Settings) -> Iterator[Remark]:
    """Paths that lead nowhere from here, though the predecessor needed what they name."""
    sought = {"dataset_root_dir": "data.dir", "prompt_file": "prompts.file", "rules_root_dir": "rules.dir"}
    for name, field in sought.items():
        if s.places.find(s[name]) is None and not (
            name == "rules_root_dir" and s.places.find(s["rules_dir"])
        ):
            said = f"{s.places.missing(s[name])}: set {field}"
            yield Remark("missing", s.flat.place(name), name, said)
        elif name == "dataset_root_dir" and columns_of(s) is None:
            said = (
                f"no train table of {s['dataset_name']} is in it: set data.text_column and data.label_column"
            )
            yield Remark("missing", s.flat.place(name), name, said)


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.6)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"no key of the predecessor, which passed over it in silence{meant}"


def _with_prompts(found: Imported, s: Settings, to: Path) -> Imported:
    """A prompts file of the predecessor's kind is written in ours; one of ours stays where it is."""
    source = s.places.find(s["prompt_file"])
    if source is None or not prompts.is_theirs(source):
        return found
    text, said = prompts.converted(source)
    remarks = [Remark("otherwise", str(source), "prompt_file", each) for each in said]
    return replace(
        found,
        prompts=text,
        values={**found.values, "prompts.file": str(to)},
        origins={**found.origins, "prompts.file": f"made from {source}"},
        remarks=(*found.remarks, *remarks),
    )


def _with_answers(found: Imported, answers: Path) -> Imported:
    """Recorded answers in the live teacher's place, and the texts that they were given to."""
    source = Path(source_of(str(answers)).url)
    if not source.is_file():
        raise ConfigError(f"--answers {answers}: there is no such file or folder; name a run's folder")
    values: dict[str, Any] = {"teacher.kind": "recorded", "teacher.answers": str(answers)}
    splits = source.parent.parent / "data_splits"
    if splits.is_dir():
        columns = {"text_column": "text", "label_column": "label", "separator": ","}
        values |= {"data.dir": str(splits), **{f"data.{name}": value for name, value in columns.items()}}
    replaced = [name for name, key in KEYS.items() if set(key.fields) & set(values)]
    said = "the run that --answers names has the texts, as text and label with commas"
    remarks = [r for r in found.remarks if r.key not in replaced]
    flat = found.flat
    return replace(
        found,
        values={**found.values, **values},
        origins={**found.origins, **dict.fromkeys(values, "--answers")},
        remarks=(
            *remarks,
            *(Remark("left out", flat.place(n), n, said) for n in replaced if n in flat.values),
        ),
    )


def _validate(found: Imported) -> None:
    """Our own limits hold; what breaks one is told by the name and line that the user knows."""
    lines: dict[KeyPath, int] = {
        tuple(field.split(".")): found.flat.lines[name]
        for name in found.flat.values
        if name in KEYS and name in found.flat.lines
        for field in KEYS[name].fields
    }
    try:
        validate(nested(found.values), Source(str(found.flat.path), {}, lines))
    except ConfigError as e:
        raise ConfigError("\n".join(_named(line, found) for line in str(e).splitlines())) from None


def _named(line: str, found: Imported) -> str:
    """An error's line with the key that the value came from."""
    field = next((f for f in found.values if f": {f}: " in line), None)
    origin = found.origins.get(field or "", "").partition(",")[0]
    if origin not in KEYS or origin == field:
        return line
    return line.replace(f": {field}: ", f": {origin} (here {field}): ", 1)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
