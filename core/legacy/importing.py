"""Convert a config of the earlier scripts to ours, and list what could not be taken over as it is."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.config import Config
from core.config.loading import leaves, validate
from core.config.reading import ConfigSource
from core.config.writing import written
from core.errors import ConfigError
from core.legacy import prompts
from core.legacy.keys import FIXED, KEYS
from core.legacy.settings import Settings, Version, read_flat
from core.teacher.recorded import source_of

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


@dataclass(slots=True)
class Imported:
    """Our values and the origin of each, both by dotted name, and remarks on the other keys.

    `prompts` is the content of a prompts file in our form, None if the earlier one is not converted.
    """

    settings: Settings
    values: dict[str, Any] = field(default_factory=lambda: {k: value for k, (value, _) in FIXED.items()})
    origins: dict[str, str] = field(default_factory=lambda: {k: why for k, (_, why) in FIXED.items()})
    remarks: list[Remark] = field(default_factory=list)
    prompts: str | None = None

    @property
    def version(self) -> Version:
        """The version of the scripts whose defaults hold."""
        return self.settings.version

    @property
    def mapped(self) -> int:
        """The number of the file's keys that are taken over."""
        left_out = {r.key for r in self.remarks if r.kind in ("left out", "unknown")}
        return len(self.settings.given.keys() - left_out)

    def note(self, kind: Kind, key: str, text: str) -> None:
        """Add a remark on a key of the file."""
        self.remarks.append(Remark(kind, self.settings.place(key), key, text))

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
    settings = read_flat(path)
    known = [KEYS[name] for name in settings.given if name in KEYS]
    settings.version = "new" if any(key.later for key in known) else "old"
    if defaults != "auto":
        settings.version = defaults
    for key in known:
        key.check(settings)
    is_old = settings.version == "old"
    default = {k.name: k.default if is_old else k.new_default for k in KEYS.values()}
    settings.values = {**default, **settings.given}
    found = Imported(settings)
    _map_keys(found)
    _note_missing(found)
    _convert_prompts(found, prompts_file)
    if answers is not None:
        _take_answers(found, answers)
    _validate(found)
    return found


def render(found: Imported) -> str:
    """Return our config as YAML: remarks first, and a comment with the origin of each value."""
    version = "first" if found.version == "old" else "later"
    lines = [
        f"# Converted from {found.settings.path} by `understudy import-config`. A comment names the key that",
        f'# a value comes from; "by default" is what the {version} version of the scripts did without it.',
    ]
    for title, remarks in found.listed():
        lines += ["#", f"# {title}:"]
        for remark in remarks:
            lines += textwrap.wrap(remark, 108, initial_indent="#   ", subsequent_indent="#     ")
    lines.append("")
    fields = (".".join(path) for path in leaves(Config))
    values = {name: found.values[name] for name in fields if name in found.values}
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


def _map_keys(found: Imported) -> None:
    """Take over the keys that have fields, and note the others."""
    given = found.settings.given
    converted = {name: key.value(found.settings) for name, key in KEYS.items() if key.fields}
    for name, value in converted.items():
        for ours in KEYS[name].fields if value is not None else ():
            found.values[ours] = value
            if ours not in found.origins or name in given:
                found.origins[ours] = name if name in given else f"{name}, by default"
    for name, value in given.items():
        key = KEYS.get(name)
        if key is None:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.note("unknown", name, f"not a key of the earlier scripts, which ignored it{hint}")
        elif not key.fields:
            text = json.dumps(value, ensure_ascii=False)
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            found.note("left out", name, f"{shown}: {key.note}")
        elif key.note and name != "prompt_file" and key.differs(value, converted[name]):
            found.note("different", name, f"now {', '.join(key.fields)}; {key.note}")


def _note_missing(found: Imported) -> None:
    """Note paths that do not exist here, although the scripts needed what they name."""
    s = found.settings
    for name, ours in _NEEDED.items():
        if s.find(s[name]) is None and not (name == "rules_root_dir" and s.find(s["rules_dir"])):
            tried = ", ".join(dict.fromkeys(map(str, s.candidates(s[name]))))
            found.note("missing", name, f"{s[name]} does not exist (tried: {tried}): set {ours}")
        elif name == "dataset_root_dir" and s.columns() is None:
            what = f"it has no train table of {s['dataset_name']}"
            found.note("missing", name, f"{what}: set data.text_column and data.label_column")


def _convert_prompts(found: Imported, to: Path) -> None:
    """Convert a prompts file of the earlier scripts; one of ours remains where it is."""
    source = found.settings.find(found.settings["prompt_file"])
    converted = None if source is None else prompts.convert(source)
    if converted is None:
        return
    found.prompts, notes = converted
    found.values["prompts.file"], found.origins["prompts.file"] = str(to), f"converted from {source}"
    for text in (KEYS["prompt_file"].note, *notes):
        found.remarks.append(Remark("different", str(source), "prompt_file", text))


def _take_answers(found: Imported, answers: Path) -> None:
    """Take recorded answers instead of the live teacher, and the texts that were answered."""
    source = Path(source_of(str(answers))[0])
    if not source.is_file():
        raise ConfigError(f"--answers {answers} does not exist; give the folder of a run")
    values: dict[str, Any] = {"teacher.kind": "recorded", "teacher.answers": str(answers)}
    splits = source.parent.parent / "data_splits"
    if splits.is_dir():
        values |= {"data.dir": str(splits), "data.text_column": "text", "data.label_column": "label"}
        values |= {"data.separator": ","}
    found.values |= values
    found.origins |= dict.fromkeys(values, "--answers")
    replaced = [name for name, key in KEYS.items() if set(key.fields) & set(values)]
    found.remarks = [remark for remark in found.remarks if remark.key not in replaced]
    text = "not needed: the run that --answers names has the texts as CSV, in the columns text and label"
    for name in replaced:
        if name in found.settings.given:
            found.note("left out", name, text)


def _validate(found: Imported) -> None:
    """Raise ConfigError for values outside our limits, with the key and line in the earlier config."""
    known = {name: line for name, line in found.settings.lines.items() if name in KEYS}
    lines = {tuple(ours.split(".")): n for name, n in known.items() for ours in KEYS[name].fields}
    try:
        validate(nested(found.values), ConfigSource(str(found.settings.path), {}, lines))
    except ConfigError as e:
        messages = []
        for message in str(e).splitlines():
            ours = next((name for name in found.values if f": {name}: " in message), "")
            origin = found.origins.get(ours, "").partition(",")[0]
            if origin in KEYS and origin != ours:
                message = message.replace(f": {ours}: ", f": {origin} (here {ours}): ", 1)
            messages.append(message)
        raise ConfigError("\n".join(messages)) from None
