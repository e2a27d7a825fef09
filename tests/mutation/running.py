"""Runs the tests on mutants, each in a forked process that has imported and collected everything before.

A mutant of a function's body replaces that function's code; any other replaces its module at the import.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.mutants import REPO, Mutant

KILLED, SURVIVED, TIMEOUT, UNTESTED = "killed", "survived", "timeout", "no test"
BROKEN, BROKEN_RUN = 3, "broken run"
"""Exit code and verdict where a run ended for a reason of its own: an error of this program."""
SECONDS, TIMES = 10, 10
"""A mutant has this many seconds of CPU time, and this many times what its tests take without it."""
SLOWEST = 2.0
"""Tests that take longer, traced, are left out."""
BYTES = 12 << 30
"""The address space of one run."""
OPTIONS = ("-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-profile", "mutation")
PRELOADED = (
    *("hypothesis", "jinja2", "numpy", "pandas", "playwright.sync_api", "pydantic", "scipy.optimize"),
    *("scipy.sparse", "scipy.special", "scipy.stats", "sklearn.metrics", "yaml"),
)
"""What the modules and the tests import, so that an import of a mutated module takes a second."""

Verdicts = dict[str, str]


class Coverage:
    """For each test its seconds and, by module, the lines that it executes."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, list[tuple[str, int]]] = {}
        self._of = {str(REPO / path): path for path in paths}
        self._now: set[tuple[str, int]] = set()

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        path = self._of.get(frame.f_code.co_filename)
        if path is None:
            return None
        self._now.add((path, frame.f_lineno))
        return self.trace

    def run(self, item: pytest.Item, after: pytest.Item | None) -> None:
        self._now.clear()
        began = time.process_time()
        sys.settrace(self.trace)
        try:
            reports = runtestprotocol(item, log=False, nextitem=after)
        finally:
            sys.settrace(None)
        if any(r.failed for r in reports):
            raise SystemExit(f"{item.nodeid} fails without any mutant")
        self.seconds[item.nodeid] = time.process_time() - began
        self.lines[item.nodeid] = sorted(self._now)


class Pool:
    """At most `jobs` forked processes, each with a limit of CPU time and a folder for temporary files."""

    def __init__(self, jobs: int, finished: Callable[[Mutant, str], None]) -> None:
        self._jobs, self._finished = jobs, finished
        self._running: dict[int, tuple[Mutant, Path]] = {}

    def start(self, mutant: Mutant, seconds: float, test: Callable[[], int]) -> None:
        """Fork; `test` returns 0 if no test fails."""
        while len(self._running) >= self._jobs:
            self.wait()
        place = Path(tempfile.mkdtemp(prefix="mutation-"))
        if pid := os.fork():
            self._running[pid] = mutant, place
            return
        code = BROKEN
        try:
            _silence()
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(place)
            limit = int(SECONDS + TIMES * seconds)
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20 * limit)
            code = test()
        except (KeyboardInterrupt, pytest.exit.Exception):
            code = 1
        finally:
            os._exit(code)

    def wait(self) -> None:
        pid, status = os.wait()
        mutant, place = self._running.pop(pid)
        shutil.rmtree(place, ignore_errors=True)
        verdict = {0: SURVIVED, 1: KILLED}.get(os.waitstatus_to_exitcode(status), BROKEN_RUN)
        if os.WIFSIGNALED(status):
            too_long = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
            verdict = TIMEOUT if too_long else KILLED
        self._finished(mutant, verdict)

    def close(self) -> None:
        while self._running:
            self.wait()


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def preload() -> None:
    for name in PRELOADED:
        importlib.import_module(name)


def in_child(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked process, as JSON."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as out:
                json.dump(work(), out)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as given:
        text = given.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise SystemExit("the tests fail without any mutant, or could not be collected")
    return json.loads(text)


class Collected:
    """A pytest plugin that runs all mutants of function bodies once the tests are collected."""

    def __init__(self, mutants: Sequence[Mutant], jobs: int, report: Callable[[Mutant, str], None]) -> None:
        self._mutants, self._jobs, self._report = mutants, jobs, report
        self.coverage: dict[str, Any] = {}
        self.not_live: list[str] = []
        """Mutants of functions that no object in memory is, as those that only run at the import."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.coverage = in_child(lambda: self._covered(session.items))
        seconds: dict[str, float] = self.coverage["seconds"]
        by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        for test, lines in self.coverage["lines"].items():
            for path, line in lines:
                by_line[path, line].add(test)
        items = {item.nodeid: item for item in session.items}
        slow = {name for name, took in seconds.items() if took > SLOWEST}
        functions = _functions({mutant.path for mutant in self._mutants})
        pool = Pool(self._jobs, self._report)
        for mutant in self._mutants:
            if (mutant.path, mutant.function) not in functions:
                self.not_live.append(mutant.name)
                continue
            first, last = mutant.lines
            names = set[str]().union(*(by_line[mutant.path, line] for line in range(first, last + 1))) - slow
            selected = [items[name] for name in sorted(names, key=lambda name: seconds[name])]
            if not selected:
                self._report(mutant, UNTESTED)
                continue
            total = sum(seconds[item.nodeid] for item in selected)
            pool.start(mutant, total, lambda m=mutant, s=selected: _run_live(m, s, functions))  # type: ignore[misc]
        pool.close()
        return True

    def _covered(self, items: Sequence[pytest.Item]) -> dict[str, Any]:
        coverage = Coverage(sorted({mutant.path for mutant in self._mutants}))
        for i, item in enumerate(items):
            coverage.run(item, items[i + 1] if i + 1 < len(items) else None)
        return {"seconds": coverage.seconds, "lines": coverage.lines}


def _functions(paths: set[str]) -> dict[tuple[str, str], list[FunctionType]]:
    """Return the live functions of modules by path and qualified name."""
    of = {str(REPO / path): path for path in paths}
    found: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename in of:
            found[of[each.__code__.co_filename], each.__code__.co_qualname].append(each)
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


def _run_live(
    mutant: Mutant, items: Sequence[pytest.Item], functions: dict[tuple[str, str], list[FunctionType]]
) -> int:
    module = compile(mutant.source, str(REPO / mutant.path), "exec")
    new = next(code for code in _codes(module) if code.co_qualname == mutant.function)
    for function in functions[mutant.path, mutant.function]:
        function.__code__ = new
    for i, item in enumerate(items):
        after = items[i + 1] if i + 1 < len(items) else None
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
            return 1
    return 0


class _Loader(SourceFileLoader):
    """Loads a module from a mutant's source."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(REPO / mutant.path))
        self._source = mutant.source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec")


class _Finder:
    def __init__(self, mutant: Mutant) -> None:
        self._name = mutant.path.removesuffix(".py").replace("/", ".")
        self._mutant = mutant

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(
            name, REPO / self._mutant.path, loader=_Loader(name, self._mutant)
        )


class _Chosen:
    """A pytest plugin that keeps some tests, in a given order."""

    def __init__(self, names: Sequence[str]) -> None:
        self._rank = {name: i for i, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._rank]
        items.sort(key=lambda item: self._rank[item.nodeid])


def run_imported(mutant: Mutant, tests: Sequence[str], names: Sequence[str]) -> int:
    """Run the named tests in this process, which has not imported the module; returns 0 if none fails."""
    sys.meta_path.insert(0, _Finder(mutant))
    code = int(pytest.main([*OPTIONS, "-x", *tests], plugins=[_Chosen(names)]))
    return BROKEN if code == pytest.ExitCode.NO_TESTS_COLLECTED else min(code, 1)


def run_live(
    mutants: Sequence[Mutant], tests: Sequence[str], jobs: int, report: Callable[[Mutant, str], None]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Run the mutants of function bodies.

    Returns by module the seconds of the tests that execute it, and the names of mutants that were not run.
    """
    plugin = Collected(mutants, jobs, report)
    code = pytest.main([*OPTIONS, "--no-header", "--no-summary", *tests], plugins=[plugin])
    if code not in (0, 5):
        raise SystemExit(f"pytest ended with {code}")
    seconds: dict[str, float] = plugin.coverage["seconds"]
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for test, lines in plugin.coverage["lines"].items():
        for path in {path for path, _ in lines if seconds[test] <= SLOWEST}:
            found[path][test] = seconds[test]
    ordered = {path: dict(sorted(of.items(), key=lambda each: each[1])) for path, of in found.items()}
    return ordered, plugin.not_live
