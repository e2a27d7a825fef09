"""Routes of the Tinker server that sample, on a thread beside training's."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from core.engines import GenerateParams
from core.errors import UserError
from tests.servers.teacher_delivery import json_response
from tests.servers.tinker_compute import Refused, Speaker, Wish, finish_of
from tests.servers.tinker_futures import Failed, Promise, Value
from tests.servers.tinker_house import FAULT, House, Reply, body_of
from tests.servers.tinker_orders import Fault
from tests.servers.tinker_proto import Answer
from tests.servers.tinker_records import Sampled, prompt_hash

# Greedy requests that go through the model together.
_TOGETHER = 64


@dataclass(slots=True)
class Sampler:
    """A sampling session."""

    id: str
    base_model: str
    path: str | None
    adapter: Path | None
    made: float = 0.0
    """When the adapter was saved: one of the same name may replace it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that nobody has begun with."""

    promise: Promise
    sampler: Sampler
    wish: Wish | Failed
    """What it asks, or why it fails."""
    short: bool
    """The answer lacks its last row."""

    @property
    def alike(self) -> object:
        """What greedy requests must share to be done together; None: this one is done alone."""
        if isinstance(self.wish, Failed) or self.wish.params.temperature > 0:
            return None
        return self.sampler.adapter, self.sampler.made, self.wish.params


class Samplers:
    """All sampling sessions, and the requests that are not finished."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._all: dict[str, Sampler] = {}
        self._speakers: dict[tuple[Path | None, float], Speaker] = {}
        self._promises: dict[tuple[str, int], tuple[Promise, list[str]]] = {}
        self._waiting: list[Waiting] = []
        self._came = asyncio.Event()
        self._outstanding = 0
        self._thread = ThreadPoolExecutor(1, "sampling")

    def routes(self) -> list[web.RouteDef]:
        api = "/api/v1"
        return [
            web.post(f"{api}/create_sampling_session", self.create, name="create_sampling_session"),
            web.get(f"{api}/samplers/{{id}}", self.sampler, name="samplers"),
            web.post(f"{api}/asample", self.ask, name="asample"),
            web.post(f"{api}/cancel_future", self.cancel, name="cancel_future"),
        ]

    def add(self, sampler: Sampler) -> None:
        self._all.setdefault(sampler.id, sampler)

    async def create(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        house, session = self.house, body["session_id"]
        house.check_session(session)
        path, base_model, adapter, made = body.get("model_path"), body.get("base_model"), None, 0.0
        if path is not None:
            kept = house.shelf.find(path, "sampler_weights")
            run, adapter, made = house.shelf.run(kept.run), house.shelf.folder(kept), kept.created
            base_model = base_model or (run.base_model if run else house.settings.names[0])
        house.check_base(str(base_model))
        id = f"{session}:sample:{body['sampling_session_seq_id']}"
        self.add(Sampler(id, str(base_model), path, adapter, made))
        return json_response({"type": "create_sampling_session", "sampling_session_id": id})

    async def sampler(self, request: web.Request) -> web.Response:
        found = self._known(request.match_info["id"])
        return json_response(
            {"sampler_id": found.id, "base_model": found.base_model, "model_path": found.path}
        )

    async def cancel(self, request: web.Request) -> web.Response:
        """What nobody waits for is computed all the same."""
        await body_of(request)
        return web.Response(status=204)

    async def ask(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        sampler, seq_id = self._known(str(body.get("sampling_session_id"))), int(body["seq_id"])
        self.house.check_session(sampler.id.rpartition(":sample:")[0])
        key = sampler.id, seq_id
        if key not in self._promises:
            self._promises[key] = self._take(request, sampler, seq_id, body)
        promise, sequences = self._promises[key]
        return json_response({"request_id": promise.id, "sample_sequence_ids": sequences})

    def _take(
        self, request: web.Request, sampler: Sampler, seq_id: int, body: dict[str, Any]
    ) -> tuple[Promise, list[str]]:
        promise = self.house.promises.give(f"{sampler.id}:{seq_id}")
        self._outstanding += 1
        self.house.records.add(
            Sampled(
                session=sampler.id,
                seq_id=seq_id,
                prompt=prompt_hash(prompt_of(body)),
                outstanding=self._outstanding,
            )
        )
        fault = request.get(FAULT)
        short = fault is not None and fault.kind == "missing_row"
        self._waiting.append(Waiting(promise, sampler, self._wished(body, fault), short))
        self._came.set()
        return promise, [f"{promise.id}:{i}" for i in range(int(body.get("num_samples", 1)))]

    async def run(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            if self.house.orders.queue_state != "active":
                await asyncio.sleep(0.02)
                continue
            group = self._next()
            values = await loop.run_in_executor(self._thread, self._answer, group)
            for waiting, value in zip(group, values, strict=True):
                self._outstanding -= 1
                waiting.promise.keep(value)
            if not self._waiting:
                self._came.clear()

    def _next(self) -> list[Waiting]:
        first = self._waiting[0]
        group = [w for w in self._waiting if w is first or (w.alike == first.alike is not None)][:_TOGETHER]
        self._waiting = [w for w in self._waiting if w not in group]
        return group

    def _answer(self, group: list[Waiting]) -> list[Value]:
        """On the sampling thread."""
        wishes = [w.wish for w in group if isinstance(w.wish, Wish)]
        if not wishes:
            return [w.wish for w in group if isinstance(w.wish, Failed)]
        try:
            answers = self._speaker(group[0].sampler).answer(wishes)
        except UserError as e:
            return [Failed(str(e), "user")] * len(group)
        except Exception as e:
            return [Failed(f"{type(e).__name__}: {e}", "server")] * len(group)
        pairs = zip(group, answers, strict=True)
        return [_without_last_row(answer) if waiting.short else answer for waiting, answer in pairs]

    def _wished(self, body: dict[str, Any], fault: Fault | None) -> Wish | Failed:
        kind = fault.kind if fault else ""
        if kind == "user_error":
            return Failed("the server was told to refuse this request", "user")
        if kind == "server_failure":
            return Failed("RuntimeError: the server was told to fail", "server")
        try:
            return self._wish(body)
        except Refused as e:
            return Failed(str(e), "user")

    def _speaker(self, sampler: Sampler) -> Speaker:
        key = sampler.adapter, sampler.made
        if key not in self._speakers:
            self._speakers[key] = Speaker(self.house.engine, sampler.adapter)
        return self._speakers[key]

    def _wish(self, body: dict[str, Any]) -> Wish:
        prompt, base = prompt_of(body), self.house.base
        if not prompt:
            raise Refused("the prompt is empty")
        base.check(prompt, "the prompt")
        stop_tokens, stop_strings = finish_of(base.eos, body["sampling_params"].get("stop"))
        wish = Wish(
            prompt=tuple(prompt),
            samples=int(body.get("num_samples", 1)),
            params=_params(body["sampling_params"], base.context - len(prompt), stop_tokens),
            stop_strings=stop_strings,
            prompt_logprobs=bool(body.get("prompt_logprobs")),
            last_n=body.get("prompt_logprobs_last_n"),
            top_prompt=body.get("topk_prompt_logprobs", 0),
            top_said=body.get("topk_sample_logprobs", 0),
        )
        if not self.house.orders.target_logprobs:
            return wish
        return with_targets(wish, body.get("target_prompt_logprobs"))

    def _known(self, id: str) -> Sampler:
        found = self._all.get(id)
        if found is None:
            raise Reply(404, f"Sampling session {id} does not exist")
        return found


def prompt_of(body: dict[str, Any]) -> list[int]:
    """The tokens of a request's prompt. Raises Reply for what is no text."""
    try:
        return [int(token) for chunk in body["prompt"]["chunks"] for token in chunk["tokens"]]
    except (KeyError, TypeError, ValueError) as e:
        raise Reply(422, f"The prompt has no tokens: {e!r}") from e


def _params(asked: dict[str, Any], room: int, stop_tokens: tuple[int, ...]) -> GenerateParams:
    """How to generate into `room` tokens. Raises Refused for what the local engine does not do."""
    if asked.get("top_k", -1) != -1 or asked.get("top_p", 1) != 1:
        raise Refused("this server samples from the whole distribution; leave top_k and top_p alone")
    wanted, temperature, seed = asked.get("max_tokens"), asked.get("temperature", 1.0), asked.get("seed")
    if wanted is not None and wanted > room:
        raise Refused(f"max_tokens is {wanted}, but the prompt leaves room for {room}")
    if temperature <= 0:
        seed = 0  # It decides nothing, and requests that are alike in all else go together.
    return GenerateParams(
        max_tokens=room if wanted is None else wanted,
        temperature=temperature,
        seed=random.randrange(1 << 31) if seed is None else seed,
        stop_tokens=stop_tokens,
    )


def with_targets(wish: Wish, asked: dict[str, Any] | None) -> Wish:
    """The wish with the cells that target_prompt_logprobs names. Raises Refused."""
    if asked is None:
        return wish
    rows, columns = asked["shape"]
    if rows != len(wish.prompt) - 1:
        raise Refused(f"target_prompt_logprobs has {rows} rows for a prompt of {len(wish.prompt)} tokens")
    data, pointers = asked["data"], asked.get("sparse_crow_indices")
    if pointers is None:
        cells = tuple((i // columns, i % columns, token) for i, token in enumerate(data))
        sparse = None
    else:
        places = asked["sparse_col_indices"]
        owner = [row for row in range(rows) for _ in range(pointers[row], pointers[row + 1])]
        cells, sparse = tuple(zip(owner, places, data, strict=True)), (pointers, places)
    if not any(token >= 0 for _, _, token in cells):
        raise Refused("target_prompt_logprobs names no token")
    return dataclasses.replace(wish, targets=cells, target_shape=(rows, columns), target_sparse=sparse)


def _without_last_row(answer: Answer) -> Answer:
    if answer.prompt_logprobs is not None:
        answer.prompt_logprobs = answer.prompt_logprobs[:-1]
    if answer.targets is not None and answer.target_sparse is None:
        rows, columns = answer.target_shape
        answer.targets, answer.target_shape = answer.targets[: (rows - 1) * columns], [rows - 1, columns]
    return answer
