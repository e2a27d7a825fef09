"""Training models of the Tinker server and the clock they work by.

Requests of a model are done in the order of their seq_id; one that comes early waits for those
before it, and one that comes again gets the promise of the first. With a clock, a cycle takes
what was queued when it began, at most one forward_backward and one optim_step of each model, and
results are given out when the next cycle has begun. So a client that waits for each request pays
four cycles a step, one that submits both and then waits two, and one that submits ahead one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from core.engines import LoraSpec
from core.errors import UserError
from tests.servers.tinker_compute import Refused, Trainer
from tests.servers.tinker_futures import Failed, Promise, Promises, Value
from tests.servers.tinker_orders import Orders
from tests.servers.tinker_proto import Malformed
from tests.servers.tinker_store import NoSuchPath

# One of each is done in a cycle; all else is done on the way.
_ONCE = {"forward": "forward", "forward_backward": "forward", "optim_step": "optim_step"}
_USERS = (Refused, Malformed, NoSuchPath, UserError)


@dataclass(frozen=True, slots=True)
class Job:
    """One request of a model."""

    seq_id: int
    call: str
    promise: Promise
    work: Callable[[], Value]
    """Done on the training thread. What it raises fails the request and poisons the model."""


@dataclass(slots=True)
class Model:
    """A training model: made by its request number 0."""

    id: str
    session: str
    base_model: str
    lora: LoraSpec
    trainer: Trainer | None = None
    failed: Failed | None = None
    loss_fn: str = ""
    next_id: int = 0
    early: dict[int, Job] = field(default_factory=dict)
    ready: deque[Job] = field(default_factory=deque)
    promises: dict[int, Promise] = field(default_factory=dict)

    def trained(self) -> Trainer:
        """Raises Refused for a model that was never made."""
        if self.trainer is None:
            raise Refused(f"model {self.id} was not made")
        return self.trainer

    def put(self, job: Job) -> None:
        self.promises[job.seq_id] = job.promise
        self.early[job.seq_id] = job
        while self.next_id in self.early:
            self.ready.append(self.early.pop(self.next_id))
            self.next_id += 1

    def take(self) -> list[Job]:
        """What one cycle does."""
        taken, used = list[Job](), set[str]()
        while self.ready and (kind := _ONCE.get(self.ready[0].call, "")) not in used:
            if kind:
                used.add(kind)
            taken.append(self.ready.popleft())
        return taken


class Workshop:
    """Does the requests of all models, one at a time on one thread."""

    def __init__(self, promises: Promises, orders: Callable[[], Orders]) -> None:
        self.models: dict[str, Model] = {}
        self.cycle = 0
        self._promises, self._orders = promises, orders
        self._thread = ThreadPoolExecutor(1, "training")
        self._changed, self._told = asyncio.Event(), asyncio.Event()
        self._done: list[tuple[Promise, Value]] = []

    def obey(self) -> None:
        """The orders are other ones."""
        self._told.set()
        self._changed.set()

    def submit(self, model: Model, seq_id: int, call: str, work: Callable[[], Value]) -> Promise:
        """The promise for a request; the one given before, where it was taken in before."""
        known = model.promises.get(seq_id)
        if known is not None:
            return known
        promise = self._promises.give(f"{model.id}:{seq_id}")
        model.put(Job(seq_id, call, promise, work))
        self._changed.set()
        return promise

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            orders = self._orders()
            self._told.clear()
            if orders.queue_state != "active":
                await self._wait()
            elif orders.cycle_s > 0:
                await self._work_a_cycle(orders.cycle_s)
            elif not await self._work_at_once():
                await self._wait()

    async def _wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def _work_at_once(self) -> bool:
        self._give_out()
        taken = [(model, model.ready.popleft()) for model in self.models.values() if model.ready]
        for model, job in taken:
            job.promise.keep(await self._do(model, job))
        return bool(taken)

    async def _work_a_cycle(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.cycle += 1
        taken = [(model, job) for model in self.models.values() for job in model.take()]
        # Only now, so that what a result leads to is for the next cycle.
        self._give_out()
        for model, job in taken:
            self._done.append((job.promise, await self._do(model, job)))
        # Other orders end a cycle at once, so that a long one is not waited for.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), max(0.0, began + seconds - loop.time()))

    def _give_out(self) -> None:
        for promise, value in self._done:
            promise.keep(value)
        self._done.clear()

    async def _do(self, model: Model, job: Job) -> Value:
        if model.failed is not None:
            return model.failed
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job.work)
        except Exception as e:
            category = "user" if isinstance(e, _USERS) else "server"
            why = f"{e}" if category == "user" else f"{type(e).__name__}: {e}"
            model.failed = Failed(
                f"model {model.id} is poisoned: its request {job.seq_id} ({job.call}) failed before with "
                f"{why!r}; open a new training client from a saved state",
                "user",
            )
            return Failed(why, "user" if category == "user" else "server")
