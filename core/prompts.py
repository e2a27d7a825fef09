"""Prompts: a YAML file of Jinja2 templates, read, checked once, and rendered to chat messages."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined, Template, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core import packages
from core.config.teacher import PromptsConfig
from core.errors import PromptError
from core.jsonio import digest
from core.promptfile import Entry, PromptFile, nearest, read_prompt_file

TEXT_SLOT = "⟦understudy:text⟧"
"""Stands for the text in a frame; whoever cuts texts to length splits the rendered prompt on it."""

_PROBES = ("  A b <&> 'q' {{ x }}\n ", TEXT_SLOT, "word " * 5000)


@dataclass(frozen=True, slots=True)
class _Key:
    """Which variables a template may use, and which of them it must."""

    allowed: frozenset[str]
    needed: frozenset[str] = frozenset()
    framed: bool = False


def _key(allowed: str, needed: str = "", *, framed: bool = False) -> _Key:
    return _Key(frozenset(allowed.split()), frozenset(needed.split()), framed)


TEMPLATES: Mapping[str, _Key] = {
    "teacher_system": _key("task_instruction rulebook"),
    "teacher_user": _key("task_instruction rulebook text", "text"),
    "teacher_hint": _key("task_instruction rulebook text gold", "gold"),
    "student_system": _key("task_instruction"),
    "student_user": _key("task_instruction text", "text", framed=True),
    "student_user_with_rulebook": _key("task_instruction text rulebook", "text rulebook", framed=True),
    "student_label_only_user": _key("task_instruction text", "text", framed=True),
    "student_label_only_user_with_rulebook": _key(
        "task_instruction text rulebook", "text rulebook", framed=True
    ),
}
REQUIRED = ("teacher_user", "student_user")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class TargetWording:
    """How the student writes label and reason, and what stands between the two."""

    label_open: str = "<label>"
    label_close: str = "</label>"
    reason_open: str = "<reason>"
    reason_close: str = "</reason>"
    separator: str = "\n"


@dataclass(frozen=True, slots=True)
class Prompts:
    """Checked templates by name, the task's sentence, and the wording of the student's answer."""

    file: str
    task_instruction: str
    templates: Mapping[str, str]
    target: TargetWording

    def teacher_messages(self, text: str, rulebook: str, *, gold: int | None = None) -> tuple[Message, ...]:
        """What the teacher is asked; with `gold`, the hint is added. Raises PromptError."""
        values = {"task_instruction": self.task_instruction, "rulebook": rulebook, "text": text}
        user = self._render("teacher_user", values)
        if gold is not None:
            user += "\n\n" + self._render("teacher_hint", {**values, "gold": gold})
        return (*self._system("teacher_system", values), Message("user", user))

    def student_messages(self, text: str, rulebook: str | None, *, label_only: bool) -> tuple[Message, ...]:
        """What the student is asked; `rulebook` None takes the template without it.

        Raises PromptError where the file lacks the template that is needed.
        """
        values = {"task_instruction": self.task_instruction, "text": text}
        if rulebook is not None:
            values["rulebook"] = rulebook
        user = self._render(_student_key(rulebook is not None, label_only), values)
        return (*self._system("student_system", values), Message("user", user))

    def student_frame(self, rulebook: str | None, *, label_only: bool) -> tuple[Message, ...]:
        """The student's messages with TEXT_SLOT, exactly once, in the place of the text.

        Raises PromptError where the template is missing or the rulebook itself holds the slot.
        """
        messages = self.student_messages(TEXT_SLOT, rulebook, label_only=label_only)
        if sum(m.content.count(TEXT_SLOT) for m in messages) != 1:
            raise PromptError(f"the rulebook or {self.file} holds the mark {TEXT_SLOT}; take it out")
        return messages

    @property
    def teacher_digest(self) -> str:
        """sha256 over what the teacher is shown, rulebook and text aside."""
        return self._digest("teacher_system", "teacher_user", "teacher_hint")

    @property
    def student_digest(self) -> str:
        """sha256 over all the student may be shown or learn to write, rulebook and text aside."""
        return digest([self._digest(*(k for k in TEMPLATES if k.startswith("student"))), self._wording])

    def frame_digest(self, *, rulebook: bool, label_only: bool) -> str:
        """sha256 over the one student prompt that is used, and the wording of its answer."""
        return digest([self._digest("student_system", _student_key(rulebook, label_only)), self._wording])

    @property
    def _wording(self) -> list[str]:
        t = self.target
        return [t.label_open, t.label_close, t.reason_open, t.reason_close, t.separator]

    def _digest(self, *names: str) -> str:
        shown = {n: self.templates[n] for n in names if n in self.templates}
        if any("task_instruction" in _uses(source) for source in shown.values()):
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

    Raises PromptError with file and line for an unknown key or variable, a template without what
    it must hold, and a student's template that does not hold the text once and as it is.
    """
    path = packages.find_default(config.file, "prompts.file")
    file = read_prompt_file(path, tuple(TEMPLATES), tuple(TargetWording().__slots__))
    instruction = config.task_instruction or file.task_instruction
    if instruction is None:
        raise PromptError(
            f"{file.path} has no task_instruction; add it there or set prompts.task_instruction"
        )
    for name in REQUIRED:
        if name not in file.templates:
            raise PromptError(f"{file.path} has no {name}; add it (see prompts/default.yaml)")
    for name, entry in file.templates.items():
        _check(name, entry, file)
    sources = {name: entry.text for name, entry in file.templates.items()}
    return Prompts(str(config.file), instruction, sources, TargetWording(**file.target))


def _student_key(rulebook: bool, label_only: bool) -> str:
    return f"student{'_label_only' if label_only else ''}_user{'_with_rulebook' if rulebook else ''}"


@functools.cache
def _environment() -> Environment:
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


@functools.lru_cache(maxsize=64)
def _uses(source: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(_environment().parse(source)))


def _render(source: str, values: Mapping[str, Any], place: str) -> str:
    try:
        return _compiled(source).render(values)
    except Exception as e:  # whatever a template's own expressions raise is the template's fault
        raise PromptError(f"{place} cannot be rendered: {e}") from e


def _check(name: str, entry: Entry, file: PromptFile) -> None:
    key = TEMPLATES[name]
    try:
        tree = _environment().parse(entry.text)
        _compiled(entry.text)
    except Exception as e:
        line = entry.line_of(getattr(e, "lineno", 1))
        raise PromptError(f"{file.path}:{line}: {name} is no Jinja2 template: {e}") from e
    for variable in sorted(meta.find_undeclared_variables(tree) - key.allowed):
        _refuse_variable(variable, name, entry, tree, file)
    place = f"{file.path}:{entry.line}: {name}"
    for variable in sorted(key.needed - meta.find_undeclared_variables(tree)):
        raise PromptError(f"{place} does not use {{{{ {variable} }}}}, which it must hold; add it")
    values = dict.fromkeys(key.allowed, "x")
    _render(entry.text, values, place)
    if key.framed:
        _check_frame(entry, tree, values, place)


def _refuse_variable(variable: str, name: str, entry: Entry, tree: nodes.Template, file: PromptFile) -> None:
    lines = [n.lineno for n in tree.find_all(nodes.Name) if n.name == variable]
    line = entry.line_of(min(lines, default=1))
    known = sorted(TEMPLATES[name].allowed)
    near = nearest(variable, known)
    if variable == "rulebook":
        hint = f"the rulebook belongs into {name.removesuffix('_with_rulebook')}_with_rulebook"
        hint = hint if TEMPLATES[name].framed else f"it may use {', '.join(known)}"
    elif near:
        hint = f"did you mean {near}?"
    else:
        hint = f"it may use {', '.join(known)}"
    raise PromptError(f"{file.path}:{line}: {name} uses the unknown variable {variable}; {hint}")


def _check_frame(entry: Entry, tree: nodes.Template, values: dict[str, str], place: str) -> None:
    """The encoder cuts the text between a head and a tail that must not depend on it."""
    uses = sum(n.name == "text" for n in tree.find_all(nodes.Name))
    plain = sum(
        isinstance(n, nodes.Name) and n.name == "text"
        for output in tree.find_all(nodes.Output)
        for n in output.nodes
    )
    frames = {tuple(_render(entry.text, {**values, "text": p}, place).split(p)) for p in _PROBES}
    if uses != 1 or plain != 1 or len(frames) != 1 or len(next(iter(frames))) != 2:
        raise PromptError(
            f"{place} must hold {{{{ text }}}} once and as it is: no filter, no condition or loop on "
            "it; the text is cut to length between what stands before and after it"
        )
