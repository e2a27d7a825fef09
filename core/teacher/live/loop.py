"""An event loop of our own, also where the caller is inside one already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run in a new loop; in a thread where this one has a running loop. Raises what `work` raises, and
    of a group its first exception: they share one cause, and one sentence is enough.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_unwrapped(work))
    out: list[T] = []
    failed: list[BaseException] = []

    def in_thread() -> None:
        try:
            out.append(asyncio.run(_unwrapped(work)))
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=in_thread, name="teacher")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return out[0]


async def _unwrapped(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
