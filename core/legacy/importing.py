"""Convert a config of the earlier scripts to ours, and list what could not be taken over as it is."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.config import Config
from core.config.loading import leaves, validate
from core.config.reading import Source
from core.config.writing import written
from core.errors import ConfigError
from core.legacy import prompts
from core.legacy.keys import FIXED, KEYS
from core.legacy.settings import FlatFile, Settings, Version, read_flat
from core.teacher.answer_file import source_of

Defaults = Literal["auto", "old", "new"]
Kind = Literal["left out", "different", "unknown", "missing"]
TITLES: Mapping[Kind, str] = {
    "left out": "No counterpart",
    "different": "Taken over with a difference",
    "unknown": "Unknown",
    "missing": "Not found",
}
_NEEDED = {"dataset_root_dir": "data.dir", "prompt_file": "prompts.file", "rules_root_dir": "rules.dir"}


@dataclass(frozen=True, slots=True)
class Remark:
    """A key that was not taken over as it is, or whose path does not exist."""

    kind: Kind
    place: str
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Our values and the origin of each, both by dotted name, and remarks on the other keys.

    `prompts` is the content of a prompts file in our form, None if the earlier one is not converted.
    """

    file: FlatFile
    version: Version
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    remarks: tuple[Remark, ...]
    prompts: str | None = None

    @property
    def mapped(self) -> int:
        """The number of the file's keys that are taken over."""
        left_out = {r.key for r in self.remarks if r.kind in ("left out", "unknown")}
        return len(self.file.given.keys() - left_out)

    def listed(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each title that has remarks, with a line for each of them."""
        for kind, title in TITLES.items():
            if lines := [f"{r.place}: {r.key}: {r.text}" for r in self.remarks if r.kind == kind]:
                yield title, lines


def import_config(
    path: Path, *, prompts_file: Path, defaults: Defaults = "auto", answers: Path | None = None
) -> Imported:
    """Convert a config of the earlier scripts.

    `defaults` is the version whose defaults hold for keys that the file lacks. `prompts_file` is where a
    converted prompts file will be written. `answers`, a run's folder or a file in it, replaces the teacher
    and the dataset by the run's answers and splits. Raises ConfigError with file, line and remedy for an
    invalid file, and for values with which no version of the scripts worked.
    """
    file = read_flat(path)
    known = [KEYS[name] for name in file.given if name in KEYS]
    version: Version = "new" if any(key.later for key in known) else "old"
    if defaults != "auto":
        version = defaults
    for key in known:
        key.check(file)
    default = {k.name: k.default if version == "old" else k.new_default for k in KEYS.values()}
    settings = Settings(file, version, {**default, **file.given})
    found = _mapped(settings)
    found = _with_prompts(found, settings, prompts_file)
    if answers is not None:
        found = _with_answers(found, answers)
    _validate(found)
    return found


def render(found: Imported) -> str:
    """Return our config as YAML: remarks first, and a comment with the origin of each value."""
    version = "first" if found.version == "old" else "later"
    lines = [
        f"# Converted from {found.file.path} by `understudy import-config`. A comment names the key that a",
        f'# value comes from; "by default" is what the {version} version of the scripts did without it.',
    ]
    for title, remarks in found.listed():
        lines += ["#", f"# {title}:"]
        for remark in remarks:
            lines += textwrap.wrap(remark, 108, initial_indent="#   ", subsequent_indent="#     ")
    lines.append("")
    fields = (".".join(path) for path in leaves(Config))
    values = {field: found.values[field] for field in fields if field in found.values}
    return "\n".join([*lines, *_yaml(nested(values), (), found.origins)]) + "\n"


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted name as nested sections."""
    out: dict[str, Any] = {}
    for dotted, value in values.items():
        *sections, name = dotted.split(".")
        at = out
        for section in sections:
            at = at.setdefault(section, {})
        at[name] = value
    return out


def _yaml(values: Any, at: tuple[str, ...], origins: Mapping[str, str]) -> Iterator[str]:
    indent = "  " * len(at)
    for name, value in values.items():
        origin = origins.get(".".join((*at, name)))
        if origin is not None:
            yield f"{indent}{name}: {written(value)}  # {origin}"
        else:
            yield from [f"{indent}{name}:"] if at else ["", f"{name}:"]
            yield from _yaml(value, (*at, name), origins)


def _mapped(s: Settings) -> Imported:
    file, converted = s.file, {name: key.value(s) for name, key in KEYS.items() if key.fields}
    values = {name: value for name, (value, _) in FIXED.items()}
    origins = {name: why for name, (_, why) in FIXED.items()}
    for name, value in converted.items():
        for field in KEYS[name].fields if value is not None else ():
            values[field] = value
            if field not in origins or name in file.given:
                origins[field] = name if name in file.given else f"{name}, by default"
    remarks = []
    for name, given in file.given.items():
        key = KEYS.get(name)
        if key is None:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            text = f"not a key of the earlier scripts, which ignored it{hint}"
            remarks.append(Remark("unknown", file.place(name), name, text))
        elif not key.fields:
            text = json.dumps(given, ensure_ascii=False)
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            remarks.append(Remark("left out", file.place(name), name, f"{shown}: {key.note}"))
        elif key.note and key.is_different(given, converted[name]) and name != "prompt_file":
            text = f"now {', '.join(key.fields)}; {key.note}"
            remarks.append(Remark("different", file.place(name), name, text))
    return Imported(file, s.version, values, origins, (*remarks, *_missing(s)))


def _missing(s: Settings) -> Iterator[Remark]:
    """Paths that do not exist here, although the scripts needed what they name."""
    for name, field in _NEEDED.items():
        if name == "rules_root_dir" and s.find(s["rules_dir"]):
            continue
        if s.find(s[name]) is None:
            tried = ", ".join(dict.fromkeys(map(str, s.candidates(s[name]))))
            text = f"{s[name]} does not exist (tried: {tried}): set {field}"
        elif name == "dataset_root_dir" and s.columns() is None:
            text = f"it has no train table of {s['dataset_name']}: set data.text_column and data.label_column"
        else:
            continue
        yield Remark("missing", s.file.place(name), name, text)


def _with_prompts(found: Imported, s: Settings, to: Path) -> Imported:
    """Convert a prompts file of the earlier scripts; one of ours remains where it is."""
    source = s.find(s["prompt_file"])
    converted = None if source is None else prompts.convert(source)
    if converted is None:
        return found
    text, notes = converted
    notes = [KEYS["prompt_file"].note, *notes]
    return replace(
        found,
        prompts=text,
        values={**found.values, "prompts.file": str(to)},
        origins={**found.origins, "prompts.file": f"converted from {source}"},
        remarks=(*found.remarks, *(Remark("different", str(source), "prompt_file", note) for note in notes)),
    )


def _with_answers(found: Imported, answers: Path) -> Imported:
    """Take recorded answers instead of the live teacher, and the texts that were answered."""
    source = Path(source_of(str(answers))[0])
    if not source.is_file():
        raise ConfigError(f"--answers {answers} does not exist; give the folder of a run")
    values: dict[str, Any] = {"teacher.kind": "recorded", "teacher.answers": str(answers)}
    splits = source.parent.parent / "data_splits"
    if splits.is_dir():
        values |= {"data.dir": str(splits), "data.text_column": "text", "data.label_column": "label"}
        values |= {"data.separator": ","}
    replaced = [name for name, key in KEYS.items() if set(key.fields) & set(values)]
    text = "not needed: the run that --answers names has the texts as CSV, in the columns text and label"
    given = [name for name in replaced if name in found.file.given]
    left_out = [Remark("left out", found.file.place(name), name, text) for name in given]
    return replace(
        found,
        values={**found.values, **values},
        origins={**found.origins, **dict.fromkeys(values, "--answers")},
        remarks=(*(r for r in found.remarks if r.key not in replaced), *left_out),
    )


def _validate(found: Imported) -> None:
    """Raise ConfigError for values outside our limits, with the key and line in the earlier config."""
    known = {name: line for name, line in found.file.lines.items() if name in KEYS}
    lines = {tuple(field.split(".")): n for name, n in known.items() for field in KEYS[name].fields}
    try:
        validate(nested(found.values), Source(str(found.file.path), {}, lines))
    except ConfigError as e:
        messages = []
        for message in str(e).splitlines():
            field = next((f for f in found.values if f": {f}: " in message), "")
            origin = found.origins.get(field, "").partition(",")[0]
            if origin in KEYS and origin != field:
                message = message.replace(f": {field}: ", f": {origin} (here {field}): ", 1)
            messages.append(message)
        raise ConfigError("\n".join(messages)) from None
