"""The predecessor's prompts file in our form: its templates, with Jinja2's braces and under our names."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from core.errors import PromptError
from core.promptfile import ALIASES

_FIELDS = ("task_instruction", "rulebook", "text")
_THINK = "<think>"
_OPENS = re.compile(r"\{(?=[{%#]|$)")
_OURS: Mapping[str, str] = {
    "student_user": "Answer with a short reason, then the label.",
    "student_label_only_user": "Answer with the label alone.",
}
"""Student's prompts without the rulebook, where the file has none: the first version always showed it."""
_TAGS = {
    "label_open": "<label>\n",
    "label_close": "\n</label>",
    "reason_open": "<think>\n",
    "reason_close": "\n</think>",
    "separator": "\n",
}
"""How the later version had answers written."""


def is_theirs(path: Path) -> bool:
    """Whether a file holds templates under the predecessor's names."""
    values = _values(path)
    return isinstance(values, dict) and any(name in ALIASES for name in values)


def converted(path: Path) -> tuple[str, list[str]]:
    """The text of a prompts file of ours, and what to know of it.

    Raises PromptError for a template that the predecessor could not have rendered either.
    """
    values = _values(path)
    texts: dict[str, str] = {}
    for name, ours in ALIASES.items():
        if values.get(name) is not None:
            texts |= dict.fromkeys(ours, _jinja(values[name], f"{path}: {name}"))
    added = {name: _own(words) for name, words in _OURS.items() if name not in texts}
    tagged = _THINK in str(values.get("reasoning_user_prompt_template"))
    return _file(path, values.get("task_instruction"), texts, added, tagged=tagged), [
        *_said(added, tagged=tagged)
    ]


def _file(
    path: Path, task: object, texts: Mapping[str, str], added: Mapping[str, str], *, tagged: bool
) -> str:
    parts = [
        f"# Made from {path} by `understudy import-config`; prompts/default.yaml says what may stand here.\n"
    ]
    if task is not None:
        parts.append(_yaml({"task_instruction": str(task)}))
    parts += [_yaml({name: text}) for name, text in texts.items()]
    parts += [f"# It had no such prompt: to be looked at.\n{_yaml({n: text})}" for n, text in added.items()]
    return "\n".join([*parts, *([_yaml({"target": _TAGS})] if tagged else [])])


def _said(added: Mapping[str, str], *, tagged: bool) -> Iterator[str]:
    yield "a copy with Jinja2's {{ text }} for {text} is written beside the config"
    yield "templates of the student are the teacher's, as before; here each can have words of its own"
    if added:
        yield f"it has no {' and no '.join(added)}: plain ones stand in the copy, to be looked at"
    if not tagged:
        yield (
            "the student answers <reason>...</reason> and <label>1</label>, whatever its prompt asks for: "
            "mend the last lines of its prompts in the copy"
        )


def _values(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as e:
        raise PromptError(f"{path} is not YAML ({' '.join(str(e).split())[:120]}); mend it") from None
    except (OSError, UnicodeDecodeError) as e:
        raise PromptError(f"{path} cannot be read as prompts: {e}") from None


def _jinja(template: object, place: str) -> str:
    """The same template with {{ text }} for {text}, and single braces for double ones."""
    if not isinstance(template, str):
        raise PromptError(f"{place} is {template!r:.40}; give a text")
    out, literal = [], ""
    try:
        for more, field, spec, conversion in string.Formatter().parse(template):
            literal += more  # a doubled brace ends a part of its own
            if field is None:
                continue
            if field not in _FIELDS or spec or conversion:
                known = ", ".join(f"{{{name}}}" for name in _FIELDS)
                raise PromptError(
                    f"{place} holds {{{field}}}, which the predecessor could not fill; it knew {known}"
                )
            out += [_OPENS.sub("{{ '{' }}", literal), f"{{{{ {field} }}}}"]
            literal = ""
    except ValueError as e:
        raise PromptError(f"{place} holds a brace that is no field ({e}); write it twice") from None
    return "".join([*out, _OPENS.sub("{{ '{' }}", literal)])


def _own(words: str) -> str:
    return f"{{{{ task_instruction }}}}\n\nText:\n{{{{ text }}}}\n\n{words}\n"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they read."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip("\n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block)


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.dump(values, Dumper=_Dumper, allow_unicode=True, width=10**6, sort_keys=False))
