"""Routes of the Tinker server that train: models, steps, saved and loaded weights."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from core.engines import ALL_LOSSES, AdamParams, LoraSpec, Loss
from core.engines.interface import LossName
from tests.servers.teacher_delivery import json_response
from tests.servers.tinker_clock import Model
from tests.servers.tinker_compute import Refused, Trainer, lora_of
from tests.servers.tinker_futures import Promise, Value
from tests.servers.tinker_house import FAULT, House, Reply, body_of
from tests.servers.tinker_orders import CheckpointKind
from tests.servers.tinker_proto import PROTOBUF, Asked, read_forward, read_forward_json
from tests.servers.tinker_records import Created, Restored, Saved, Stepped, batch_hash
from tests.servers.tinker_sampling import Sampler, Samplers
from tests.servers.tinker_store import Kept, Run, check_name, expiry

Work = Callable[[], Value]


class Training:
    """Takes requests in; the work itself is done by the workshop, in the order of their numbers."""

    def __init__(self, house: House, samplers: Samplers) -> None:
        self.house, self.samplers = house, samplers

    def routes(self) -> list[web.RouteDef]:
        api = "/api/v1"
        return [
            web.post(f"{api}/create_model", self.create, name="create_model"),
            web.post(f"{api}/load_weights", self.load, name="load_weights"),
            web.post(f"{api}/get_info", self.info, name="get_info"),
            web.post(f"{api}/forward_backward", self.forward_backward, name="forward_backward"),
            web.post(f"{api}/forward", self.forward_backward, name="forward"),
            web.post(f"{api}/optim_step", self.optim_step, name="optim_step"),
            web.post(f"{api}/save_weights", self.save, name="save_weights"),
            web.post(f"{api}/save_weights_for_sampler", self.save_sampler, name="save_weights_for_sampler"),
            web.post(f"{api}/save_weights_external", self.save_external, name="save_weights_external"),
        ]

    async def create(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        self.house.check_session(body["session_id"])
        self.house.check_base(body["base_model"])
        asked = body.get("lora_config") or {}
        seed = asked.get("seed")
        lora = LoraSpec(
            rank=asked.get("rank", 32),
            alpha=self.house.settings.lora_alpha,
            dropout=0.0,
            seed=random.randrange(1 << 31) if seed is None else seed,
            train_mlp=asked.get("train_mlp", True),
            train_attention=asked.get("train_attn", True),
            train_unembed=asked.get("train_unembed", True),
        )
        model = self._model(body, body["base_model"], lora)
        return self._take(request, model, 0, "create_model", lambda: self._make(model, body))

    def _model(self, body: dict[str, Any], base_model: str, lora: LoraSpec) -> Model:
        id = f"{body['session_id']}:train:{body['model_seq_id']}"
        model = Model(id, body["session_id"], base_model, lora)
        return self.house.workshop.models.setdefault(id, model)

    def _make(self, model: Model, body: dict[str, Any], state: Kept | None = None) -> Value:
        """On the training thread."""
        house, lora = self.house, model.lora
        folder, optimizer = (house.shelf.folder(state) if state else None), bool(body.get("optimizer"))
        model.trainer = self._trainer(lora, folder, optimizer)
        house.shelf.begin(Run.of(model.id, model.base_model, lora, time.time(), body.get("user_metadata")))
        house.records.add(
            Created(
                model=model.id,
                base_model=model.base_model,
                rank=lora.rank,
                seed=lora.seed,
                train_mlp=lora.train_mlp,
                train_attn=lora.train_attention,
                train_unembed=lora.train_unembed,
            )
        )
        if state is None:
            return {"type": "create_model", "model_id": model.id}
        return self._restored(model, state.path, optimizer)

    def _trainer(self, lora: LoraSpec, folder: Path | None, optimizer: bool) -> Trainer:
        weighted = self.house.settings.logprobs == "weighted"
        return Trainer(self.house.engine, lora, folder, optimizer=optimizer, weighted=weighted)

    def _restored(self, model: Model, path: str, optimizer: bool) -> Value:
        row = Restored(model=model.id, path=path, step=model.trained().step, optimizer=optimizer)
        self.house.records.add(row)
        return {"type": "load_weights", "path": path, "model_id": model.id}

    async def load(self, request: web.Request) -> web.Response:
        """A new model from a state; or, as older SDKs do, a state into a model that is there."""
        body = await body_of(request)
        if body.get("model_id") is not None:
            model = self._known(body["model_id"])
            return self._take(request, model, body["seq_id"], "load_weights", lambda: self._load(model, body))
        self.house.check_session(body["session_id"])
        kept = self.house.shelf.find(body["path"], "weights")
        run = self.house.shelf.run(kept.run)
        base_model = body.get("base_model") or (run.base_model if run else self.house.settings.names[0])
        self.house.check_base(base_model)
        model = self._model(body, base_model, lora_of(self.house.shelf.folder(kept)))
        return self._take(request, model, 0, "load_weights", lambda: self._make(model, body, kept))

    def _load(self, model: Model, body: dict[str, Any]) -> Value:
        kept = self.house.shelf.find(body["path"], "weights")
        folder, optimizer = self.house.shelf.folder(kept), bool(body["optimizer"])
        lora = lora_of(folder)
        if lora.rank != model.lora.rank:
            raise Refused(f"{kept.path} has rank {lora.rank}, the model has {model.lora.rank}")
        model.trainer, model.lora = self._trainer(lora, folder, optimizer), lora
        return self._restored(model, kept.path, optimizer)

    async def info(self, request: web.Request) -> web.Response:
        model = self._known((await body_of(request))["model_id"])
        folder = self.house.engine.local_model.folder
        data = {
            "arch": self.house.base.architecture,
            "model_name": model.base_model,
            # The SDK loads its tokenizer by this name.
            "tokenizer_id": str(folder),
        }
        found = {
            "type": "get_info",
            "model_data": data,
            "model_id": model.id,
            "is_lora": True,
            "lora_rank": model.lora.rank,
            "model_name": model.base_model,
        }
        return json_response(found)

    async def forward_backward(self, request: web.Request) -> web.Response:
        """Both passes, or the forward pass alone."""
        if request.content_type == PROTOBUF:
            asked = read_forward(await request.read())
        else:
            asked = read_forward_json(await body_of(request))
        model = self._known(asked.model)
        call = "forward" if asked.forward_only else "forward_backward"
        return self._take(request, model, asked.seq_id, call, lambda: self._forward(model, asked))

    def _forward(self, model: Model, asked: Asked) -> Value:
        loss, data, trainer = _loss(asked), asked.read(), model.trained()
        for i, datum in enumerate(data):
            self.house.base.check(datum.tokens, f"data[{i}]")
            self.house.base.check(datum.targets, f"target_tokens of data[{i}]")
            if loss.is_policy and not len(datum.logprobs) == len(datum.advantages) == len(datum.tokens):
                raise Refused(f"data[{i}] lacks logprobs or advantages, which {loss.name} needs")
        if asked.forward_only:
            return trainer.forward(data, loss)
        model.loss_fn = asked.loss_fn
        return trainer.accumulate(data, loss)

    async def optim_step(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        model, seq_id = self._known(body["model_id"]), int(body["seq_id"])
        return self._take(
            request,
            model,
            seq_id,
            "optim_step",
            lambda: self._step(model, seq_id, body.get("adam_params")),
        )

    def _step(self, model: Model, seq_id: int, params: dict[str, Any] | None) -> Value:
        if params is None:
            raise Refused("the only optimizer of this server is Adam; send adam_params")
        trainer = model.trained()
        result, batch = trainer.optimise(AdamParams(**params))
        row = Stepped(
            model=model.id,
            seq_id=seq_id,
            step=trainer.step - 1,
            batch=batch_hash(batch),
            loss_fn=model.loss_fn,
            loss=result.loss,
            grad_norm=result.grad_norm,
            cycle=self.house.workshop.cycle if self.house.orders.cycle_s > 0 else 0,
            **params,
        )
        self.house.records.add(row)
        return {"metrics": {"grad_norm:mean": result.grad_norm}}

    async def save(self, request: web.Request) -> web.Response:
        return await self._save(request, "weights", "save_weights")

    async def save_external(self, request: web.Request) -> web.Response:
        return await self._save(request, "external_weights", "save_weights_external")

    async def save_sampler(self, request: web.Request) -> web.Response:
        return await self._save(request, "sampler_weights", "save_weights_for_sampler")

    async def _save(self, request: web.Request, kind: CheckpointKind, call: str) -> web.Response:
        body = await body_of(request)
        model = self._known(body["model_id"])
        if body.get("path") is None and kind == "sampler_weights":
            work: Work = lambda: self._lend(model, body)  # noqa: E731
        else:
            work = lambda: self._keep(model, body, kind, call)  # noqa: E731
        return self._take(request, model, body["seq_id"], call, work)

    def _keep(self, model: Model, body: dict[str, Any], kind: CheckpointKind, call: str) -> Value:
        house, trainer, ttl = self.house, model.trained(), body.get("ttl_seconds")
        name, replace = _checked(body)
        taken = house.shelf.get(model.id, kind, name)
        if taken is not None and not (replace or house.orders.duplicate_names):
            raise Refused(f"{taken.path} exists already; take another name")
        kept = Kept(
            run=model.id,
            kind=kind,
            name=name,
            step=trainer.step,
            created=time.time(),
            expires=_expiry(ttl),
            size=0,
            user_metadata=body.get("user_metadata"),
        )
        whole = kind == "weights"
        house.shelf.keep(kept, lambda folder: trainer.save(folder, adapter_only=not whole), replace=True)
        house.records.add(
            Saved(model=model.id, path=kept.path, kind=kind, step=trainer.step, ttl_seconds=ttl)
        )
        return {"type": call, "path": kept.path}

    def _lend(self, model: Model, body: dict[str, Any]) -> Value:
        """Weights without a name: a sampling session at once, gone with this process."""
        folder = Path(self.house.settings.folder) / "parts" / f"lent-{uuid.uuid4().hex}"
        folder.mkdir()
        model.trained().save(folder, adapter_only=True)
        id = f"{model.session}:sample:{body['sampling_session_seq_id']}"
        self.samplers.add(Sampler(id, model.base_model, None, folder))
        return {"type": "save_weights_for_sampler", "sampling_session_id": id}

    def _known(self, id: str) -> Model:
        model = self.house.workshop.models.get(id)
        if model is None:
            raise Reply(404, f"Model {id} does not exist")
        self.house.check_session(model.session)
        return model

    def _take(self, request: web.Request, model: Model, seq_id: int, call: str, work: Work) -> web.Response:
        promise: Promise = self.house.workshop.submit(model, seq_id, call, failing(request) or work)
        return json_response({"request_id": promise.id, "model_id": model.id})


def _loss(asked: Asked) -> Loss:
    if asked.loss_fn not in ALL_LOSSES:
        known = ", ".join(sorted(ALL_LOSSES))
        raise Refused(f"loss_fn {asked.loss_fn!r} is not one this server computes; use {known}")
    loss = Loss(cast(LossName, asked.loss_fn))
    return Loss(loss.name, *asked.clips) if loss.clips else loss


def failing(request: web.Request) -> Work | None:
    """Work that fails as a fault has it, if one hit this request."""
    fault = request.get(FAULT)
    if fault is None or fault.kind not in ("user_error", "server_failure"):
        return None

    def fail() -> Value:
        if fault.kind == "user_error":
            raise Refused("the server was told to refuse this request")
        raise RuntimeError("the server was told to fail")

    return fail


def _checked(body: dict[str, Any]) -> tuple[str, bool]:
    try:
        return check_name(body.get("path")), bool(body.get("overwrite"))
    except ValueError as e:
        raise Refused(str(e)) from e


def _expiry(ttl_seconds: int | None) -> float | None:
    try:
        return expiry(ttl_seconds)
    except ValueError as e:
        raise Refused(str(e)) from e
