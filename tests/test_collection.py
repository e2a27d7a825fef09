"""Every function that looks like a test is one that pytest collects."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
FILES = sorted(TESTS.rglob("*.py"))


def looks_like_tests(tree: ast.AST) -> list[str]:
    """Names of all functions called test_..., wherever they stand."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [n.name for n in ast.walk(tree) if isinstance(n, kinds) and n.name.startswith("test_")]


def collected(tree: ast.Module) -> list[str]:
    """Names of those that pytest takes: plain functions of the module, and methods of Test classes."""
    bodies = [tree.body]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            assert not any(isinstance(n, ast.FunctionDef) and n.name == "__init__" for n in node.body)
            bodies.append(node.body)
    return [
        n.name
        for body in bodies
        for n in body
        if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(TESTS)))
def test_every_test_is_collected(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = looks_like_tests(tree)
    if not path.name.startswith("test_"):
        assert found == [], "a file of this name is not looked into"
        return
    assert sorted(found) == sorted(collected(tree))
    assert [name for name, n in Counter(found).items() if n > 1] == [], "the second hides the first"
