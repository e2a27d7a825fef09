"""A real server of the OpenAI chat protocol on loopback, which replays answers and fails when told.

It runs in a process of its own, so that what it counted outlives a client that was killed.
`python -m tests.servers.teacher` serves until it is terminated;
`python -m tests.servers.teacher --measure` prints what a request costs.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tests.servers.connections import tell
from tests.servers.s3 import LIBC, LOOPBACK, end, end_with_parent
from tests.servers.teacher_orders import (
    Counts,
    Delay,
    Fault,
    FaultKind,
    Limit,
    Orders,
    Prices,
    Seen,
    Settings,
    Totals,
)

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class TeacherServer:
    """A running server, and what it can be told."""

    port: int
    pid: int

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def fail(
        self,
        kind: FaultKind,
        *,
        rate: float = 1.0,
        first: int | None = None,
        ids: Collection[str] | None = None,
        seconds: float = 1.0,
        retry_after: str | None = None,
        seed: int = 0,
        status: int = 400,
        code: str | None = None,
        formats: Collection[str] = ("json_schema",),
        content: str = "",
        finish_reason: str = "stop",
    ) -> None:
        """Fail in this way from now on, after the faults told before; see Fault and FaultKind."""
        fault = Fault(
            kind=kind,
            rate=rate,
            first=first,
            ids=None if ids is None else frozenset(ids),
            seconds=seconds,
            retry_after=retry_after,
            seed=seed,
            status=status,
            code=code,
            formats=frozenset(formats),
            content=content,
            finish_reason=finish_reason,
        )
        self._ask("fault", fault.model_dump_json())

    def delay(
        self,
        seconds: float,
        *,
        tail: Literal["fixed", "lognormal", "pareto"] = "fixed",
        spread: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Take so long for each request; see Delay."""
        self._tell(Orders(delay=Delay(tail=tail, seconds=seconds, spread=spread, seed=seed)))

    def limit(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        burst_s: float = 60.0,
        retry_after: Literal["seconds", "milliseconds", "date", "none"] = "seconds",
        hidden: bool = False,
    ) -> None:
        """Answer with 429 above a rate, in full buckets from now on; see Limit. No rate: no limit."""
        limit = Limit(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            burst_s=burst_s,
            retry_after=retry_after,
            hidden=hidden,
        )
        self._tell(Orders(limit=limit if requests_per_minute or tokens_per_minute else None))

    def queue(self, capacity: int | None) -> None:
        """Work on so many requests at once and let the others wait; None: on all."""
        self._tell(Orders(capacity=capacity))

    def recover(self) -> None:
        """Take all faults, limits, delays and queues back; the counts stay."""
        self._tell(Orders(delay=Delay(), limit=None, capacity=None, faults=()))

    def reset_counts(self) -> None:
        """Count anew; which answers a text has had is not forgotten."""
        self._ask("reset", "")

    def orders(self) -> Orders:
        """How it behaves now."""
        return Orders.model_validate_json(self._ask(""))

    def totals(self) -> Totals:
        """What it counted over all texts, and the bill."""
        return Totals.model_validate_json(self._ask("totals"))

    def counts(self) -> Counts:
        """What it counted, each text by its id as well."""
        return Counts.model_validate_json(self._ask("counts"))

    def arrivals(self) -> list[float]:
        """When each request came, in seconds of the Unix clock."""
        return [float(at) for at in json.loads(self._ask("arrivals"))]

    def seen(self) -> list[Seen]:
        """The latest requests (64 at most), the oldest first."""
        return [Seen.model_validate(row) for row in json.loads(self._ask("seen"))]

    def _tell(self, orders: Orders) -> None:
        self._ask("", orders.model_dump_json(include=orders.model_fields_set))

    def _ask(self, what: str, body: str | None = None) -> bytes:
        return tell(f"http://{LOOPBACK}:{self.port}", what, body)


@contextmanager
def serve(
    texts: Path | None = None,
    *,
    frames: Collection[tuple[str, str]] = (),
    api_key: str | None = None,
    models: Collection[str] = (),
    prices: Prices | None = None,
    reasoning_content: bool = False,
    port: int = 0,
) -> Iterator[TeacherServer]:
    """Serve the texts of a file that `teacher_answers.write_texts` wrote; see Settings.

    Enter it on a thread that lives as long as the server is wanted: on Linux the server ends with
    the thread that started it. Raises RuntimeError, with what it said, where it does not start.
    """
    settings = Settings(
        texts=None if texts is None else str(Path(texts).resolve()),
        frames=tuple(frames),
        api_key=api_key,
        models=tuple(models),
        prices=prices or Prices(),
        reasoning_content=reasoning_content,
        port=port,
    )
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.teacher", settings.model_dump_json()],
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            preexec_fn=end_with_parent if LIBC else None,
        )
        try:
            yield TeacherServer(ready(process, log), process.pid)
        finally:
            end(process)
            if process.stdout is not None:
                process.stdout.close()


def ready(process: subprocess.Popen[bytes], log: IO[Any]) -> int:
    """The port that the server says it listens on; a line that does not come is its end."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if line.strip().isdigit():
        return int(line)
    process.wait()
    log.seek(0)
    raise RuntimeError(f"the teacher's server ended:\n{log.read().decode(errors='replace')[-3000:]}")


async def serve_until_ended(settings: Settings) -> None:
    """Serve, and write the port to standard output as soon as clients are let in."""
    from tests.servers.teacher_app import run

    _, port = await run(settings, LOOPBACK)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    """Serve with the settings given as JSON, or measure."""
    if arguments == ["--measure"]:
        from tests.servers.teacher_measure import FRAME, measure

        with serve(frames=[FRAME]) as server:
            for line in measure(server.base_url, server.pid):
                sys.stdout.write(line + "\n")
        return
    asyncio.run(serve_until_ended(Settings.model_validate_json(arguments[0] if arguments else "{}")))


if __name__ == "__main__":
    main(sys.argv[1:])
