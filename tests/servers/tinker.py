"""A real server of the Tinker protocol on loopback: it trains and samples a tiny model, and fails when told.

The unmodified SDK talks to it. It runs in a process of its own: a first one imports torch once and
makes the serving one by fork, so that a server that was killed is there again at once.
`python -m tests.servers.tinker <settings as JSON>` serves; a line on standard input starts it anew.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from tests.servers.connections import tell
from tests.servers.s3 import LIBC, LOOPBACK, end, end_with_parent
from tests.servers.tinker_orders import Fault, FaultKind, Orders, QueueState, Settings
from tests.servers.tinker_records import RECORDS, Counts, Record, Restored, Sampled, Saved, Stepped

REPO = Path(__file__).resolve().parents[2]
KEY = "tml-tests"
"""A key that the SDK takes for one."""


class TinkerServer:
    """A running server, and what it can be told."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[Any]) -> None:
        self._process, self._log = process, log
        self.port, self.pid = self._begun()

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"http://{LOOPBACK}:{self.port}"

    def restart(self) -> None:
        """Kill the serving process and start another at the same port, over the same folder.

        Checkpoints and records are there again; sessions, models, promises and what was told are not.
        """
        self.kill()
        self.start()

    def kill(self) -> None:
        """End the serving process as a lost machine would."""
        os.kill(self.pid, signal.SIGKILL)

    def start(self) -> None:
        """Serve again after `kill`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self.port}\n".encode())
        self._process.stdin.flush()
        self.port, self.pid = self._begun()

    def fail(
        self,
        kind: FaultKind,
        *,
        on: str | None = None,
        first: int | None = None,
        after: int = 0,
        prompts: Collection[str] | None = None,
        seconds: float = 1.0,
        retry_after: str | None = None,
        bytes: int = 1 << 20,
    ) -> None:
        """Fail in this way from now on, after the faults told before; see Fault and FaultKind."""
        fault = Fault(
            kind=kind,
            on=on,
            first=first,
            after=after,
            prompts=None if prompts is None else frozenset(prompts),
            seconds=seconds,
            retry_after=retry_after,
            bytes=bytes,
        )
        self._ask("fault", fault.model_dump_json())

    def recover(self) -> None:
        """Behave as at the start: orders and faults told since are taken back; what was recorded stays."""
        self._ask("recover", "")

    def cycle(self, seconds: float) -> None:
        """Train by a clock of such cycles from now on; 0: without one."""
        self._tell(Orders(cycle_s=seconds))

    def pause(self, state: QueueState = "paused_capacity", reason: str | None = None) -> None:
        """Compute nothing, and tell this to whoever asks for a result, until `resume`."""
        self._tell(Orders(queue_state=state, queue_reason=reason))

    def resume(self) -> None:
        self._tell(Orders(queue_state="active", queue_reason=None))

    def poll(self, seconds: float, try_again: Literal["status", "body"] = "status") -> None:
        """Hold a question for a result so long, and say so that it is to be asked again."""
        self._tell(Orders(poll_s=seconds, try_again=try_again))

    def score_targets(self, on: bool) -> None:
        """Off: target_prompt_logprobs is passed over, as by older servers."""
        self._tell(Orders(target_logprobs=on))

    def allow_duplicates(self, on: bool) -> None:
        """On: a checkpoint of a name that is taken replaces the other."""
        self._tell(Orders(duplicate_names=on))

    def ask_for_key(self, key: str | None) -> None:
        """Let in only whoever has this key."""
        self._tell(Orders(api_key=key))

    def configure_clients(self, flags: dict[str, bool | int | str]) -> None:
        """Give these feature flags to clients that are made from now on."""
        self._tell(Orders(client_config=flags))

    def expire(self, path: str | None = None) -> int:
        """End the time of the checkpoint at a path, or of all that have a TTL; gives how many."""
        return int(self._ask("expire", path or ""))

    def end_sessions(self) -> None:
        """All sessions are over."""
        self._ask("end_sessions", "")

    def orders(self) -> Orders:
        """How it behaves now."""
        return Orders.model_validate_json(self._ask(""))

    def counts(self) -> Counts:
        """What it counted."""
        return Counts.model_validate_json(self._ask("counts"))

    def records(self) -> list[Record]:
        """All that was done since the folder was new, in order."""
        return RECORDS.validate_json(self._ask("records"))

    def steps(self, model: str | None = None) -> list[Stepped]:
        """The optimiser steps that were applied, of one model or all."""
        found = [row for row in self.records() if isinstance(row, Stepped)]
        return [row for row in found if model in (None, row.model)]

    def restores(self) -> list[Restored]:
        return [row for row in self.records() if isinstance(row, Restored)]

    def saves(self) -> list[Saved]:
        return [row for row in self.records() if isinstance(row, Saved)]

    def samples(self) -> list[Sampled]:
        return [row for row in self.records() if isinstance(row, Sampled)]

    def _begun(self) -> tuple[int, int]:
        """Port and process that the server says; a line that does not come is its end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.startswith(b"{"):
            said = json.loads(line)
            return int(said["port"]), int(said["pid"])
        end(self._process)
        self._log.seek(0)
        raise RuntimeError(f"the Tinker server ended:\n{self._log.read().decode(errors='replace')[-3000:]}")

    def _tell(self, orders: Orders) -> None:
        self._ask("", orders.model_dump_json(include=orders.model_fields_set))

    def _ask(self, what: str, body: str | None = None) -> bytes:
        return tell(self.base_url, what, body)


@contextmanager
def serve(
    model: Path,
    folder: Path,
    *,
    names: Collection[str] = ("tiny/base",),
    port: int = 0,
    lora_alpha: float = 32.0,
    logprobs: Literal["all", "weighted"] = "all",
    orders: Orders | None = None,
) -> Iterator[TinkerServer]:
    """Serve the base model that lies in `model`, keeping everything in `folder`; see Settings.

    Enter it on a thread that lives as long as the server is wanted: on Linux the server ends with
    the thread that started it. Raises RuntimeError, with what it said, where it does not start.
    """
    settings = Settings(
        model=str(model.resolve()),
        folder=str(folder.resolve()),
        names=tuple(names),
        port=port,
        lora_alpha=lora_alpha,
        logprobs=logprobs,
        orders=orders or Orders(),
    )
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.tinker", settings.model_dump_json()],
            cwd=REPO,
            # One thread: fork is safe then, and a tiny model gains nothing from more.
            env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            preexec_fn=end_with_parent if LIBC else None,
        )
        try:
            yield TinkerServer(process, log)
        finally:
            end(process)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def supervise(settings: Settings) -> None:
    """Fork a serving process at first and for each line of standard input, once the last one has ended."""
    from core.base_model import resolve_model
    from core.engines.local import LocalEngine

    source = resolve_model(settings.model, cache=Path(settings.folder) / "cache")
    # What is imported, or found out about the architecture, before a fork is there after it.
    importlib.import_module("tests.servers.tinker_app")
    engine = LocalEngine(source, device="cpu", train_dtype="float32", threads=1)
    engine.sampler(None).close()
    while True:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if LIBC:
                end_with_parent()
            asyncio.run(serve_until_ended(settings, engine))
        signal.signal(signal.SIGTERM, functools.partial(_end_both, child))
        line = sys.stdin.readline()
        if not line:
            _end_both(child)
        os.waitpid(child, 0)
        settings = settings.model_copy(update={"port": int(line)})


def _end_both(child: int, *_: object) -> None:
    os.kill(child, signal.SIGKILL)
    os._exit(0)


async def serve_until_ended(settings: Settings, engine: Any) -> None:
    """Serve, and write port and process to standard output as soon as clients are let in."""
    from tests.servers.tinker_app import run

    port = await run(settings, engine, LOOPBACK)
    sys.stdout.write(json.dumps({"port": port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    supervise(Settings.model_validate_json(sys.argv[1]))
