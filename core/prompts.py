"""Prompts: a YAML file of Jinja2 templates, read, checked once, and rendered to chat messages."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core import locations
from core.config import PromptsConfig
from core.errors import PromptError
from core.jsonio import digest

TEXT_SLOT = "⟦understudy:text⟧"
"""Marks the place of the text in a frame, the prompt around it."""

TEMPLATES: Mapping[str, tuple[str, str]] = {
    "teacher_system": ("task_instruction rulebook", ""),
    "teacher_user": ("task_instruction rulebook text", "text"),
    "teacher_hint": ("task_instruction rulebook text gold", "gold"),
    "student_system": ("task_instruction", ""),
    "student_user": ("task_instruction text", "text"),
    "student_user_with_rulebook": ("task_instruction text rulebook", "text rulebook"),
    "student_label_only_user": ("task_instruction text", "text"),
    "student_label_only_user_with_rulebook": ("task_instruction text rulebook", "text rulebook"),
}
"""The variables that each template may use, and those that it must use."""
_REQUIRED = ("teacher_user", "student_user")
ALIASES: Mapping[str, tuple[str, ...]] = {
    "teacher_system_prompt": ("teacher_system",),
    "reasoning_user_prompt_template": ("teacher_user", "student_user_with_rulebook"),
    "label_only_user_prompt_template": ("student_label_only_user_with_rulebook",),
    "student_reasoning_user_prompt_template_no_rulebook": ("student_user",),
}
"""Key names of this project's predecessor, with the templates that replace each."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class TargetWording:
    """How the student writes label and reason, and what separates the two."""

    label_open: str = "<label>"
    label_close: str = "</label>"
    reason_open: str = "<reason>"
    reason_close: str = "</reason>"
    separator: str = "\n"


@dataclass(frozen=True, slots=True)
class Prompts:
    """Checked templates by name, the task instruction, and the wording of the student's answer."""

    file: str
    task_instruction: str
    templates: Mapping[str, str]
    target: TargetWording

    def teacher_messages(self, text: str, rulebook: str, *, gold: int | None = None) -> tuple[Message, ...]:
        """Return the teacher's prompt; with `gold`, the hint is added. Raises PromptError."""
        values = {"task_instruction": self.task_instruction, "rulebook": rulebook, "text": text}
        user = self._render("teacher_user", values)
        if gold is not None:
            user += "\n\n" + self._render("teacher_hint", {**values, "gold": gold})
        return (*self._system("teacher_system", values), Message("user", user))

    def student_messages(self, text: str, rulebook: str | None, *, label_only: bool) -> tuple[Message, ...]:
        """Return the student's prompt; `rulebook` None selects the template without it.

        Raises PromptError if the file lacks the template.
        """
        values = {"task_instruction": self.task_instruction, "text": text}
        if rulebook is not None:
            values["rulebook"] = rulebook
        user = self._render(_student_key(rulebook is not None, label_only), values)
        return (*self._system("student_system", values), Message("user", user))

    def student_frame(self, rulebook: str | None, *, label_only: bool) -> tuple[Message, ...]:
        """Return the student's messages with TEXT_SLOT, exactly once, in the place of the text.

        Raises PromptError if the template is missing or the rulebook itself contains the slot.
        """
        messages = self.student_messages(TEXT_SLOT, rulebook, label_only=label_only)
        if sum(m.content.count(TEXT_SLOT) for m in messages) != 1:
            raise PromptError(f"the rulebook or {self.file} contains the mark {TEXT_SLOT}; remove it")
        return messages

    @property
    def teacher_digest(self) -> str:
        """sha256 over the teacher's templates, without rulebook and text."""
        return self._digest("teacher_system", "teacher_user", "teacher_hint")

    @property
    def student_digest(self) -> str:
        """sha256 over the student's templates and the wording of its answer, without rulebook and text."""
        return digest([self._digest(*(k for k in TEMPLATES if k.startswith("student"))), self._wording])

    def frame_digest(self, *, rulebook: bool, label_only: bool) -> str:
        """sha256 over the student template that is used, and the wording of its answer."""
        return digest([self._digest("student_system", _student_key(rulebook, label_only)), self._wording])

    @property
    def _wording(self) -> list[str]:
        t = self.target
        return [t.label_open, t.label_close, t.reason_open, t.reason_close, t.separator]

    def _digest(self, *names: str) -> str:
        shown = {n: self.templates[n] for n in names if n in self.templates}
        if any("task_instruction" in _variables(source) for source in shown.values()):
            shown["task_instruction"] = self.task_instruction
        return digest(shown)

    def _system(self, name: str, values: Mapping[str, Any]) -> tuple[Message, ...]:
        return (Message("system", self._render(name, values)),) if name in self.templates else ()

    def _render(self, name: str, values: Mapping[str, Any]) -> str:
        if name not in self.templates:
            raise PromptError(f"{self.file} has no {name}, which this run needs; add it")
        return _render(self.templates[name], values, f"{self.file}: {name}")


def load_prompts(config: PromptsConfig) -> Prompts:
    """Read and check the templates of `config.file`.

    Raises PromptError with file and line for an unknown key or variable, a template without a variable that
    it must use, and a student's template that does not contain the text once and unchanged.
    """
    path = locations.default_file(config.file, "prompts.file").absolute()
    texts: dict[str, _Entry] = {}
    target: dict[str, str] = {}
    for key, source in _texts(_parse_yaml(path), path, ("task_instruction", *TEMPLATES, *ALIASES, "target")):
        if key.startswith("target."):
            target[key.removeprefix("target.")] = source.text
            continue
        for name in ALIASES.get(key, (key,)):
            if name in texts:
                raise PromptError(f"{source.place()}: {key} and {name} are one; keep one of them")
            texts[name] = source
    given = texts.pop("task_instruction", None)
    instruction = config.task_instruction or (given.text.strip() if given else None)
    if instruction is None:
        raise PromptError(f"{path} has no task_instruction; add it there or set prompts.task_instruction")
    for name in _REQUIRED:
        if name not in texts:
            raise PromptError(f"{path} has no {name}; add it (see prompts/default.yaml)")
    for name, source in texts.items():
        _check(name, source)
    templates = {name: source.text for name, source in texts.items()}
    return Prompts(str(config.file), instruction, templates, TargetWording(**target))


def _student_key(rulebook: bool, label_only: bool) -> str:
    return f"student{'_label_only' if label_only else ''}_user{'_with_rulebook' if rulebook else ''}"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A text of the file. `begin` is its first line; None if YAML folds its lines."""

    text: str
    path: Path
    line: int
    begin: int | None

    def place(self, lineno: int | None = None) -> str:
        """Return file and line, of the text's line `lineno` (from 1) or of its key."""
        line = self.line if lineno is None or self.begin is None else self.begin + lineno - 1
        return f"{self.path}:{line}"


def _texts(
    node: yaml.Node | None, path: Path, known: Sequence[str], section: str = ""
) -> Iterator[tuple[str, _Entry]]:
    """Yield the texts of a mapping by their keys, those of `target` as target.<key>.

    Raises PromptError with its line for anything but `known` keys with texts.
    """
    if not isinstance(node, yaml.MappingNode):
        raise PromptError(f"{path} has no keys; it must map names to templates (see prompts/default.yaml)")
    seen = set[str]()
    for key_node, value in node.value:
        name = str(key_node.value)
        key, line = section + name, value.start_mark.line + 1
        place = f"{path}:{line}"
        if name in seen:
            raise PromptError(f"{path}:{key_node.start_mark.line + 1}: {name} occurs twice; keep one of them")
        seen.add(name)
        if name not in known:
            listed = [each for each in known if each not in ALIASES]
            raise PromptError(f"{place}: unknown key {name}; {_suggestion(name, listed, 'known are')}")
        if not section and value.tag == "tag:yaml.org,2002:null":
            continue
        if key == "target":
            yield from _texts(value, path, TargetWording.__slots__, "target.")
            continue
        if not isinstance(value, yaml.ScalarNode):
            kind = "a list" if isinstance(value, yaml.SequenceNode) else "a mapping"
            raise PromptError(f"{place}: {key} must be a text, not {kind}")
        if not value.value.strip() and key != "target.separator":
            remedy = "write a mark" if section else "write it or leave the key out"
            raise PromptError(f"{place}: {key} is empty; {remedy}")
        yield key, _Entry(value.value, path, line, line + 1 if value.style == "|" else None)


def _parse_yaml(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise PromptError(f"{path} does not exist; set prompts.file to a prompts file") from None
    except UnicodeDecodeError as e:
        raise PromptError(f"{path} cannot be read: {e}; save the file as UTF-8") from e
    except OSError as e:
        raise PromptError(f"{path} cannot be read: {e}; set prompts.file to a prompts file") from e
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None) or getattr(e, "context_mark", None)
        problem = getattr(e, "problem", None) or getattr(e, "context", None) or e
        place = f"{path}:{mark.line + 1}" if mark else path
        raise PromptError(f"{place}: not YAML: {problem}; fix this line") from e


def _suggestion(name: str, known: Sequence[str], listed: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"{listed} {', '.join(known)}"


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
)
_compiled = functools.lru_cache(maxsize=64)(_ENVIRONMENT.from_string)


@functools.lru_cache(maxsize=64)
def _variables(source: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


def _render(source: str, values: Mapping[str, Any], place: str) -> str:
    try:
        return _compiled(source).render(values)
    except Exception as e:  # whatever a template's own expressions raise is the template's fault
        raise PromptError(f"{place} cannot be rendered: {e}") from e


_FORMAT_FIELD = re.compile(r"(?<![{%#])\{(text|rulebook|task_instruction|gold)\}(?!\})")
_PROBES = ("  A b <&> 'q' {{ x }}\n ", TEXT_SLOT, "word " * 5000)


def _check(name: str, entry: _Entry) -> None:
    if found := _FORMAT_FIELD.search(entry.text):
        place = entry.place(entry.text.count("\n", 0, found.start()) + 1)
        raise PromptError(
            f"{place}: {name} contains {found.group(0)}; these are Jinja2 templates, "
            f"write {{{{ {found.group(1)} }}}}"
        )
    try:
        tree = _ENVIRONMENT.parse(entry.text)
        _compiled(entry.text)
    except Exception as e:
        place = entry.place(getattr(e, "lineno", 1))
        raise PromptError(f"{place}: {name} is not a Jinja2 template: {e}") from e
    allowed, needed = (set(variables.split()) for variables in TEMPLATES[name])
    used = _variables(entry.text)
    for variable in sorted(used - allowed):
        line = min((n.lineno for n in tree.find_all(nodes.Name) if n.name == variable), default=1)
        hint = _suggestion(variable, sorted(allowed), "it may use")
        if variable == "rulebook" and name.startswith("student") and needed:
            hint = f"the rulebook belongs into {name.removesuffix('_with_rulebook')}_with_rulebook"
        raise PromptError(f"{entry.place(line)}: {name} uses the unknown variable {variable}; {hint}")
    place = f"{entry.place()}: {name}"
    for variable in sorted(needed - used):
        raise PromptError(f"{place} does not use {{{{ {variable} }}}}, which it must contain; add it")
    values = dict.fromkeys(sorted(allowed), "x")
    _render(entry.text, values, place)
    if not (name.startswith("student") and needed):
        return
    # The encoder cuts the text between a head and a tail that must not depend on it.
    uses = sum(n.name == "text" for n in tree.find_all(nodes.Name))
    outputs: Iterable[nodes.Output] = tree.find_all(nodes.Output)
    plain = sum(isinstance(n, nodes.Name) and n.name == "text" for output in outputs for n in output.nodes)
    frames = {tuple(_render(entry.text, {**values, "text": p}, place).split(p)) for p in _PROBES}
    if uses != 1 or plain != 1 or len(frames) != 1 or len(next(iter(frames))) != 2:
        raise PromptError(
            f"{place} must contain {{{{ text }}}} once and as it is: no filter, no condition or loop on "
            "it; the text is cut to length between what is before and after it"
        )
