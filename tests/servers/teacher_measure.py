"""What one request costs the server, and a bare client beside it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp

REQUESTS = 20_000
AT_ONCE = 64
FRAME = ("A rule of the policy, as long as such rules are. [R1]\n" * 100 + "\nText:\n", "\n\nAnswer in JSON.")


def measure(base_url: str, pid: int) -> Iterator[str]:
    """Lines with milliseconds of processor time a request, for both processes."""
    asyncio.run(_ask_all(base_url, 1000))
    served, asked, began = _processor_s(pid), time.process_time(), time.monotonic()
    asyncio.run(_ask_all(base_url, REQUESTS))
    served, asked = _processor_s(pid) - served, time.process_time() - asked
    took = time.monotonic() - began
    yield f"{REQUESTS} requests, {AT_ONCE} at once, {REQUESTS / took:.0f} a second"
    yield f"server: {1000 * served / REQUESTS:.3f} ms a request"
    yield f"client: {1000 * asked / REQUESTS:.3f} ms a request"


async def _ask_all(base_url: str, requests: int) -> None:
    numbers = iter(range(requests))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        await asyncio.gather(*(_ask(session, base_url, numbers) for _ in range(AT_ONCE)))


async def _ask(session: aiohttp.ClientSession, base_url: str, numbers: Iterator[int]) -> None:
    url = f"{base_url}/chat/completions"
    for number in numbers:
        message = {"role": "user", "content": f"The text of number {number}.".join(FRAME)}
        async with session.post(url, json={"model": "m", "temperature": 0, "messages": [message]}) as reply:
            reply.raise_for_status()
            json.loads(await reply.read())


def _processor_s(pid: int) -> float:
    """Seconds that a process has spent on a processor, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
