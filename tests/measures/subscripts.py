"""Count where results are read by string keys, and where dictionaries cross a package's boundary.

    python -m tests.measures.subscripts [FOLDER ...]

prints both counts for each package, or with `--where` every place. A read by key is a subscript with a
constant string (`row["rows"]`) or a call of `get`, `pop` or `setdefault` whose first argument is one. A
dictionary crosses the boundary where a public function or a public field is annotated with a mapping from
strings to Any.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PACKAGES = (
    "core/report",
    "core/summary",
    "core/tracking",
    "core/pipeline",
    "core/export",
)
_READS = frozenset({"get", "pop", "setdefault"})
_UNTYPED = re.compile(r"\b(?:dict|Mapping|MutableMapping)\[str, (?:Any|object)\]")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, with the expression found there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def subscripts(package: str) -> list[Place]:
    """Every read by a constant string key in the Python files of a folder."""
    return [
        Place(str(path.relative_to(REPO)), node.lineno, ast.unparse(node)[:80])
        for path, tree in _parsed(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.expr) and _reads_by_key(node)
    ]


def untyped(package: str) -> list[Place]:
    """Every public signature or field of a folder that is annotated with a mapping to Any."""
    return [
        Place(str(path.relative_to(REPO)), annotation.lineno, f"{name}: {written}")
        for path, tree in _parsed(package)
        for name, annotation in _public(tree.body)
        if _UNTYPED.search(written := ast.unparse(annotation))
    ]


def _parsed(package: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((REPO / package).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def _reads_by_key(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        return _is_text(node.slice) and not ast.unparse(node.value).endswith("Literal")
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _READS
        and bool(node.args)
        and _is_text(node.args[0])
    )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _public(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Annotations of public functions, and of the fields and methods of public classes, with their names."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(node.name):
            of = node.args
            arguments = [*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg]
            annotations = [node.returns, *(a.annotation for a in arguments if a is not None)]
            yield from ((node.name, a) for a in annotations if a is not None)
        elif isinstance(node, ast.ClassDef) and _is_public(node.name):
            yield from ((f"{node.name}.{name}", a) for name, a in _public(node.body))
        elif isinstance(node, ast.AnnAssign) and _is_public(ast.unparse(node.target)):
            yield ast.unparse(node.target), node.annotation


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__call__"


def main(arguments: list[str]) -> None:
    """Print the counts of the packages named, of all seven by default."""
    packages = [a for a in arguments if not a.startswith("-")] or list(PACKAGES)
    totals = [0, 0]
    for package in packages:
        found = subscripts(package), untyped(package)
        totals = [total + len(places) for total, places in zip(totals, found, strict=True)]
        print(f"{package:<16}{len(found[0]):>5} reads by key{len(found[1]):>5} untyped annotations")
        if "--where" in arguments:
            print(*(f"  {place}" for places in found for place in places), sep="\n")
    print(f"{'all':<16}{totals[0]:>5} reads by key{totals[1]:>5} untyped annotations")


if __name__ == "__main__":
    main(sys.argv[1:])
