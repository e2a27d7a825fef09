"""Convert the earlier scripts' prompts file: str.format templates become Jinja2 under our names."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from core.errors import PromptError
from core.prompts import ALIASES

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


def convert(path: Path) -> tuple[str, list[str]] | None:
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
        parts.append(_yaml({"task_instruction": str(task)}))
    parts += [_yaml({name: text}) for name, text in texts.items()]
    for name, ending in added.items():
        template = f"{{{{ task_instruction }}}}\n\nText:\n{{{{ text }}}}\n\n{ending}\n"
        parts.append(f"# The earlier scripts had no such prompt: check it.\n{_yaml({name: template})}")
    if tagged:
        parts.append(_yaml({"target": _TAGS}))

    notes = ["the student's templates are the teacher's, as before; here each can have its own wording"]
    if added:
        notes.append(f"it has no {' and no '.join(added)}: check the plain ones in the copy")
    if not tagged:
        notes.append(
            "the student answers <reason>...</reason> and <label>1</label>, whatever its prompt asks for: "
            "correct the last lines of its prompts in the copy"
        )
    return "\n".join(parts), notes


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


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.dump(values, Dumper=_Dumper, allow_unicode=True, width=10**6, sort_keys=False))
