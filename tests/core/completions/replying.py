"""Replies for the journal's tests, and a process that appends them until it is killed.

python -m tests.core.completions.replying <root> <run> <seconds between uploads>
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from core import jsonio
from core.completions.chat import Reply
from core.completions.journal import Journal
from core.store import Store

REPO = Path(__file__).resolve().parents[3]
AT = "2026-01-01T00:00:{:02d}+00:00"


def key_of(name: object) -> str:
    """A key as a request has it."""
    return jsonio.digest(name)[:32]


def reply(
    name: object = 0,
    *,
    run: str = "r",
    second: int = 0,
    text: str = "한국어\n\u2028 and half a pair \ud800",
    tokens: int | None = 10,
) -> Reply:
    """The reply to the named request."""
    return Reply(
        key=key_of(name),
        run=run,
        example_id=f"id{name}",
        attempt=0,
        temperature=0.0,
        hinted=False,
        model="m",
        raw_output=text,
        reasoning_content=None,
        finish_reason="stop",
        prompt_tokens=tokens,
        cached_tokens=1 if tokens else None,
        completion_tokens=2 if tokens else None,
        latency_s=0.5,
        output_format="json",
        at=AT.format(second),
    )


def append(journal: Journal, answer: Reply) -> None:
    """Append a reply from a thread without an event loop."""
    asyncio.run(journal.append(answer))


def killed_while_appending(root: str, run: str, interval: float, wanted: int = 300) -> list[str]:
    """Kill -9 a process that appends once `wanted` appends have returned; return the keys of all that had."""
    command = [sys.executable, "-m", "tests.core.completions.replying", root, run, str(interval)]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        out = b""
        while out.count(b"\n") < wanted:
            assert select.select([child.stdout], [], [], 60)[0], "the child says nothing"
            data = os.read(child.stdout.fileno(), 65536)
            assert data, "the child ended by itself"
            out += data
        child.send_signal(signal.SIGKILL)
        out += child.stdout.read()
    return [line.decode() for line in out.split(b"\n")[:-1]]


async def _appending(journal: Journal, appender: int) -> None:
    for i in range(100_000):
        made = reply(f"{journal.run}-{appender}-{i}", run=journal.run, text=f"{i} " * (i % 500))
        await journal.append(made)
        os.write(1, f"{made.key}\n".encode())


async def _all(root: str, run: str, interval: float) -> None:
    with Journal.open(Store.open(root), run, interval=interval) as journal:
        await asyncio.gather(*(_appending(journal, n) for n in range(32)))


if __name__ == "__main__":
    asyncio.run(_all(sys.argv[1], sys.argv[2], float(sys.argv[3])))
