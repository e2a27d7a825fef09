"""Convert a config and a prompts file of the earlier scripts to ours, and list what could not be taken over.

Their prompts are str.format templates, ours Jinja2 templates under other names.
"""

from __future__ import annotations

import difflib
import json
import re
import string
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from core.config import Config
from core.config.loading import ConfigSource, file_text, leaves, validate
from core.config.section import written
from core.errors import ConfigError, PromptError
from core.legacy.keys import FIXED, KEYS, Settings, Version
from core.prompts import ALIASES
from core.teacher.recorded import source_of

Defaults = Literal["auto", "old", "new"]
Kind = Literal["left out", "different", "unknown", "missing"]
TITLES: Mapping[Kind, str] = {
    "left out": "No counterpart",
    "different": "Taken over with a difference",
    "unknown": "Unknown",
    "missing": "Not found",
}
_KINDS = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
_NEEDED = {"dataset_root_dir": "data.dir", "prompt_file": "prompts.file", "rules_root_dir": "rules.dir"}
_FIELDS = ("task_instruction", "rulebook", "text")
_BEGINS_JINJA = re.compile(r"\{(?=[{%#]|$)")
_STUDENT: Mapping[str, str] = {
    "student_user": "Answer with a short reason, then the label.",
    "student_label_only_user": "Answer with the label alone.",
}
"""The last line of prompts without the rulebook, which the first version of the scripts did not have."""
_TAGS = {
    "label_open": "<label>\n",
    "label_close": "\n</label>",
    "reason_open": "<think>\n",
    "reason_close": "\n</think>",
    "separator": "\n",
}
"""The form of answers in the later version."""


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
    source = settings.find(settings["prompt_file"])
    if source is not None and (converted := convert_prompts(source)) is not None:
        found.prompts, notes = converted
        found.values["prompts.file"] = str(prompts_file)
        found.origins["prompts.file"] = f"converted from {source}"
        for text in (KEYS["prompt_file"].note, *notes):
            found.remarks.append(Remark("different", str(source), "prompt_file", text))
    if answers is not None:
        _take_answers(found, answers)
    _validate(found)
    return found


def read_flat(path: Path) -> Settings:
    """Read the keys of the file. Raises ConfigError unless it is one flat JSON object, each key once."""
    text = file_text(path)

    def reject(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON number; give a number")

    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=reject)
    except json.JSONDecodeError as e:
        hint = "JSON has no comments and no comma after the last key" if text.strip() else "the file is empty"
        if path.suffix in (".yaml", ".yml"):
            hint = "a config in YAML needs no import: run it as it is"
        raise ConfigError(f"{path}:{e.lineno}: not JSON: {e.msg}; {hint}") from None
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{path}: not JSON: {e}") from None
    if not isinstance(pairs, _Pairs):
        kind = _KINDS.get(type(pairs), "a number")
        raise ConfigError(f"{path}: expected one JSON object with a key per setting, found {kind}")
    names, lines = [name for name, _ in pairs], dict[str, int]()
    for name in names:
        if match := re.search(rf"{re.escape(json.dumps(name, ensure_ascii=False))}\s*:", text):
            lines[name] = text.count("\n", 0, match.start()) + 1
    found = Settings(path, dict(pairs), lines)
    for name, value in pairs:
        if names.count(name) > 1:
            raise found.error(name, "the key is repeated; keep one")
        if isinstance(value, _Pairs) and name in Config.model_fields:
            why = "is an object, as in a config of this project, which needs no import: run it as it is"
            raise found.error(name, why)
        if isinstance(value, list):
            kind = "an object" if isinstance(value, _Pairs) else "a list"
            raise found.error(name, f"is {kind}; the earlier scripts have single values only")
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


def convert_prompts(path: Path) -> tuple[str, list[str]] | None:
    """Return the text of a prompts file in our form, and notes; None without templates under earlier names.

    Raises PromptError for a template that the scripts could not have rendered.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as e:
        raise PromptError(f"{path} is not YAML: {' '.join(str(e).split())[:120]}; correct it") from None
    except (OSError, UnicodeDecodeError) as e:
        raise PromptError(f"cannot read prompts from {path}: {e}") from None
    if not isinstance(values, dict) or not any(name in ALIASES for name in values):
        return None
    texts: dict[str, str] = {}
    for name, ours in ALIASES.items():
        if values.get(name) is not None:
            texts |= dict.fromkeys(ours, _jinja(values[name], f"{path}: {name}"))
    added = {name: ending for name, ending in _STUDENT.items() if name not in texts}
    tagged = "<think>" in str(values.get("reasoning_user_prompt_template"))

    parts = [f"# Converted from {path} by `understudy import-config`; prompts/default.yaml has all keys.\n"]
    if (task := values.get("task_instruction")) is not None:
        parts.append(_prompts_yaml({"task_instruction": str(task)}))
    parts += [_prompts_yaml({name: text}) for name, text in texts.items()]
    for name, ending in added.items():
        template = f"{{{{ task_instruction }}}}\n\nText:\n{{{{ text }}}}\n\n{ending}\n"
        parts.append(
            f"# The earlier scripts had no such prompt: check it.\n{_prompts_yaml({name: template})}"
        )
    if tagged:
        parts.append(_prompts_yaml({"target": _TAGS}))

    notes = ["the student's templates are the teacher's, as before; here each can have its own wording"]
    if added:
        notes.append(f"it has no {' and no '.join(added)}: check the plain ones in the copy")
    if not tagged:
        notes.append(
            "the student answers <reason>...</reason> and <label>1</label>, whatever its prompt asks for: "
            "correct the last lines of its prompts in the copy"
        )
    return "\n".join(parts), notes


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of a JSON object, which may repeat a key."""


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
    settings, given, converted = found.settings, found.settings.given, dict[str, Any]()
    for name, key in KEYS.items():
        value = settings[name] if key.convert is None else key.convert(settings, settings[name])
        converted[name] = value
        for ours in key.fields if value is not None else ():
            found.values[ours] = value
            if ours not in found.origins or name in given:
                found.origins[ours] = name if name in given else f"{name}, by default"
    for name, value in given.items():
        if name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.note("unknown", name, f"not a key of the earlier scripts, which ignored it{hint}")
            continue
        key = KEYS[name]
        unchanged = converted[name] is None or (key.convert is not None and converted[name] == value)
        if not key.fields:
            text = json.dumps(value, ensure_ascii=False)
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            found.note("left out", name, f"{shown}: {key.note}")
        elif key.note and name != "prompt_file" and not unchanged:
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


def _jinja(template: object, place: str) -> str:
    """Replace {text} by {{ text }}, and doubled braces by single ones."""
    if not isinstance(template, str):
        raise PromptError(f"{place} is {template!r:.40}; give a text")
    out, literal = [], ""
    try:
        for more, field, spec, conversion in string.Formatter().parse(template):
            literal += more  # the parser ends a part after each doubled brace
            if field is None:
                continue
            if field not in _FIELDS or spec or conversion:
                known = ", ".join(f"{{{name}}}" for name in _FIELDS)
                raise PromptError(f"{place} has {{{field}}}, which the scripts did not know; use {known}")
            out += [_escaped(literal), f"{{{{ {field} }}}}"]
            literal = ""
    except ValueError as e:
        raise PromptError(f"{place} has a brace that is not a field ({e}); double it") from None
    return "".join([*out, _escaped(literal)])


def _escaped(literal: str) -> str:
    """Escape braces that Jinja2 would read as the beginning of a tag."""
    return _BEGINS_JINJA.sub("{{ '{' }}", literal)


class _Dumper(yaml.SafeDumper):
    """Dumps texts of several lines as block scalars."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip("\n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block)


def _prompts_yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.dump(values, Dumper=_Dumper, allow_unicode=True, width=10**6, sort_keys=False))
