"""Stages that are made beside what follows: handed to the flow's threads, and always waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from core.store.manifest import Manifest
from tasks.policy import StageCall


class Running(Protocol):
    """A stage's task at work in another thread."""

    def done(self) -> bool:
        """Whether it has ended, well or not."""

    def result(self) -> bool:
        """Wait for it; whether it found the object made. Raises what it raised."""


@dataclass(frozen=True, slots=True)
class TaskRunning:
    """A Prefect future that somebody has to await."""

    future: Any
    call: StageCall

    def done(self) -> bool:
        return bool(self.future.state.is_final())

    def result(self) -> bool:
        self.future.result()
        return self.call.reused


@dataclass(frozen=True, slots=True)
class Submitted:
    """A stage that was submitted."""

    running: Running
    finish: Callable[[], Manifest]

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.running.done()

    def result(self) -> Manifest:
        """Wait for it: its manifest, recorded. Raises what it raised."""
        return self.finish()

    def let_go(self) -> None:
        """Wait for its end where its result is not wanted any more: no future stays unread."""
        with contextlib.suppress(Exception):
            self.running.result()
