"""The YAML of a prompts file: which key stands on which line, and what must not stand there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from core.errors import PromptError

# Key names of this project's predecessor, so that its users' files say what has to be changed.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "teacher_system_prompt": ("teacher_system",),
    "reasoning_user_prompt_template": ("teacher_user", "student_user_with_rulebook"),
    "label_only_user_prompt_template": ("student_label_only_user_with_rulebook",),
    "student_reasoning_user_prompt_template_no_rulebook": ("student_user",),
}
_FORMAT_FIELD = re.compile(r"(?<![{%#])\{(text|rulebook|task_instruction|gold)\}(?!\})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A text with the line its key stands on."""

    text: str
    line: int
    body: int
    """Line of the file on which the text's own first line stands."""
    exact: bool
    """Whether the text's lines are the file's lines (not so where YAML folds them)."""

    def line_of(self, lineno: int) -> int:
        """The file's line of the text's line `lineno`, counted from 1."""
        return self.body + lineno - 1 if self.exact else self.line


@dataclass(frozen=True, slots=True)
class PromptFile:
    """What the file holds, by key, before the templates are looked at."""

    path: Path
    task_instruction: str | None
    templates: Mapping[str, Entry]
    target: Mapping[str, str]


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The name that a misspelt one was probably meant to be."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None


def read_prompt_file(path: Path, templates: tuple[str, ...], wording: tuple[str, ...]) -> PromptFile:
    """Read the file. Raises PromptError with its line for anything but known keys with texts."""
    path = path.absolute()
    entries: dict[str, Entry] = {}
    target: dict[str, str] = {}
    known = ("task_instruction", *templates)
    for key, node in _pairs(_root(path), path):
        if key == "target":
            target = _target(node, wording, path)
            continue
        if key not in known and key not in ALIASES:
            _refuse_key(key, node.start_mark.line + 1, (*known, "target"), path)
        if _is_null(node):
            continue
        entry = _entry(key, node, path)
        for name in ALIASES.get(key, (key,)):
            if name in entries:
                raise PromptError(f"{path}:{entry.line}: {key} and {name} are one; keep one of them")
            entries[name] = entry
    instruction = entries.pop("task_instruction", None)
    for name, entry in entries.items():
        _refuse_format(name, entry, path)
    return PromptFile(path, instruction.text.strip() if instruction else None, entries, target)


def _root(path: Path) -> yaml.Node | None:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise PromptError(f"{path} does not exist; set prompts.file to a prompts file") from None
    except OSError as e:
        raise PromptError(f"{path} cannot be read: {e.strerror}; set prompts.file") from e
    except UnicodeDecodeError as e:
        raise PromptError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from e
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = mark.line + 1 if mark else 1
        raise PromptError(f"{path}:{line}: not YAML: {e.problem or e.context}; mend this line") from e
    except yaml.YAMLError as e:
        raise PromptError(f"{path}: not YAML: {e}") from e


def _pairs(node: yaml.Node | None, path: Path) -> list[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise PromptError(f"{path} holds no keys; it must map names to templates (see prompts/default.yaml)")
    pairs = [(str(key.value), value) for key, value in node.value]
    seen: set[str] = set()
    for (key, _), (mark, _) in zip(pairs, node.value, strict=True):
        if key in seen:
            raise PromptError(f"{path}:{mark.start_mark.line + 1}: {key} stands twice; keep one of them")
        seen.add(key)
    return pairs


def _target(node: yaml.Node, wording: tuple[str, ...], path: Path) -> dict[str, str]:
    if _is_null(node):
        return {}
    target: dict[str, str] = {}
    for key, value in _pairs(node, path):
        if key not in wording:
            _refuse_key(key, value.start_mark.line + 1, wording, path)
        target[key] = _text(f"target.{key}", value, path)
        if key != "separator" and not target[key].strip():
            raise PromptError(f"{path}:{value.start_mark.line + 1}: target.{key} is empty; write a mark")
    return target


def _entry(key: str, node: yaml.Node, path: Path) -> Entry:
    text = _text(key, node, path)
    line = node.start_mark.line + 1
    if not text.strip():
        raise PromptError(f"{path}:{line}: {key} is empty; write it or leave the key out")
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    return Entry(text, line, line + 1 if style == "|" else line, exact=style == "|")


def _text(key: str, node: yaml.Node, path: Path) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    raise PromptError(f"{path}:{node.start_mark.line + 1}: {key} must be a text, not {kind}")


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _refuse_key(key: str, line: int, known: Sequence[str], path: Path) -> None:
    near = nearest(key, known)
    hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
    raise PromptError(f"{path}:{line}: unknown key {key}; {hint}")


def _refuse_format(name: str, entry: Entry, path: Path) -> None:
    found = _FORMAT_FIELD.search(entry.text)
    if found:
        line = entry.line_of(entry.text.count("\n", 0, found.start()) + 1)
        raise PromptError(
            f"{path}:{line}: {name} holds {found.group(0)}; these are Jinja2 templates, "
            f"write {{{{ {found.group(1)} }}}}"
        )
