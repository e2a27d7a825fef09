"""Mutants of a module: mutmut's operators, applied to functions of every kind and to the code around them.

mutmut's own runner leaves out decorated functions, properties and constants, so most of what is tested here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import deep_replace
from mutmut.mutation.mutators import mutation_operators, operator_arg_removal, operator_string

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module; `source` is the whole module with it, `lines` the statement that is changed.

    `function` is the qualified name of the outermost function whose body is changed; "" outside of bodies
    (constants, defaults, decorators), where the change is only seen when the module is imported.
    """

    path: str
    function: str
    lines: tuple[int, int]
    source: str
    name: str
    """The mutant by its change, which stays the same if the module is edited elsewhere."""


def mutants(path: str, functions: Sequence[str] = ()) -> Iterator[Mutant]:
    """Yield the mutants of a module; with `functions`, those inside these functions and classes only."""
    wrapper = MetadataWrapper(cst.parse_module((REPO / path).read_text(encoding="utf-8")))
    module, found = wrapper.module, _Places()
    wrapper.visit(found)
    parts = [module.code_for_node(statement) for statement in module.body]
    seen = Counter[str]()
    header = "".join(module.code_for_node(each) for each in module.header)
    for place in found.places:
        if functions and not any(f"{place.scope}.".startswith(f"{name}.") for name in functions):
            continue
        i = place.statement
        for changed in _changes(place.node):
            statement = deep_replace(module.body[i], place.node, changed)
            assert isinstance(statement, cst.CSTNode)
            part = module.code_for_node(statement)
            if part == parts[i]:
                continue
            source = header + "".join([*parts[:i], part, *parts[i + 1 :]])
            old, new = _difference(parts[i].splitlines(), part.splitlines())
            name = f"{path} {place.scope}: {old} -> {new}"
            seen[name] += 1
            name = name if seen[name] == 1 else f"{name} #{seen[name]}"
            yield Mutant(path, place.function, place.lines, source, name)


def _changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if not isinstance(node, kind):
            continue
        if operator is operator_arg_removal:
            yield from _without_arguments(node)
            continue
        for changed in operator(node):
            yield changed
            if operator is operator_string:
                break  # the others change upper and lower case only


def _without_arguments(node: cst.Call) -> Iterator[cst.Call]:
    """Yield the call with None for each positional argument, and without each keyword argument."""
    if isinstance(node.func, cst.Name) and node.func.value in ("len", "isinstance", "issubclass"):
        return  # always a TypeError
    for i, argument in enumerate(node.args):
        before, after = node.args[:i], node.args[i + 1 :]
        if argument.keyword is not None:
            yield node.with_changes(args=[*before, *after])
        elif not argument.star:
            yield node.with_changes(args=[*before, argument.with_changes(value=cst.Name("None")), *after])


def _difference(old: list[str], new: list[str]) -> tuple[str, str]:
    """Return the lines that differ, without indentation."""
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    before, after = (" ".join(line.strip() for line in lines) for lines in (old, new))
    return before, after


@dataclass(frozen=True, slots=True)
class _Place:
    node: cst.CSTNode
    statement: int
    scope: str
    function: str
    lines: tuple[int, int]


class _Places(cst.CSTVisitor):  # type: ignore[misc]
    """Collects the nodes that decide behavior: not annotations, docstrings, messages of errors, logging."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        self.places: list[_Place] = []
        self._statement = 0
        self._numbers: dict[int, int] = {}
        self._scope: list[str] = []
        self._bodies: list[cst.CSTNode] = []
        self._functions: list[str] = []
        self._line: cst.CSTNode | None = None
        self._depth = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Module):
            self._numbers = {id(statement): i for i, statement in enumerate(node.body)}
            return True
        self._statement = self._numbers.get(id(node), self._statement)
        if _is_left_out(node):
            self._depth += 1
            return False
        if isinstance(node, cst.SimpleStatementLine):
            self._line = node
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._scope.append(node.name.value)
            if isinstance(node, cst.FunctionDef) and not self._bodies:
                self._bodies.append(node.body)
                self._functions.append("")
        if self._bodies and node is self._bodies[0]:
            self._functions.append(".".join(self._scope))
        if self._depth:
            span = self.get_metadata(PositionProvider, self._line or node)
            lines = (span.start.line, span.end.line)
            function = self._functions[-1] if self._functions else ""
            self.places.append(_Place(node, self._statement, ".".join(self._scope), function, lines))
        self._depth += 1
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        node = original_node
        if isinstance(node, cst.Module):
            return
        self._depth -= 1
        if node is self._line:
            self._line = None
        if self._bodies and node is self._bodies[0]:
            self._functions.pop()
        if isinstance(node, cst.FunctionDef | cst.ClassDef) and not _is_left_out(node):
            self._scope.pop()
            if isinstance(node, cst.FunctionDef) and self._bodies and node.body is self._bodies[0]:
                self._bodies.pop()
                self._functions.pop()


def _is_left_out(node: cst.CSTNode) -> bool:
    match node:
        case cst.Annotation() | cst.Import() | cst.ImportFrom() | cst.Raise() | cst.Assert():
            return True
        case cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString()):  # a docstring
            return True
        case cst.Call(func=cst.Attribute(value=cst.Name("log"))):
            return True
        case cst.Decorator(decorator=cst.Call(func=cst.Name("dataclass"))):
            return True
        case (
            cst.Assign(value=cst.Subscript(value=cst.Name()))
            | cst.Assign(value=cst.Call(func=cst.Name("TypeVar")))
        ):
            return True  # types
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name("remedy"))]):  # a message
            return True
    return False
