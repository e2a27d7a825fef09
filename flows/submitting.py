"""Stages that are made beside what follows: handed to the flow's threads, and always waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from core.store.manifest import Manifest

# Evaluations of a remote engine; everything else is called.
TWO_THREADS: TaskRunner[PrefectFuture[Any]] = cast(Any, ThreadPoolTaskRunner(max_workers=2))


@dataclass(frozen=True, slots=True)
class Submitted:
    """A stage's task at work in another thread: its Prefect future, and what follows its end."""

    future: Any
    finish: Callable[[], Manifest]

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return bool(self.future.state.is_final())

    def result(self) -> Manifest:
        """Wait for it: its manifest, recorded. Raises what it raised."""
        self.future.result()
        return self.finish()

    def let_go(self) -> None:
        """Wait for its end where its result is not wanted any more: no future stays unread."""
        with contextlib.suppress(Exception):
            self.future.result()
