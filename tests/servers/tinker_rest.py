"""Routes of the Tinker server about what there is: sessions, models, runs, checkpoints, downloads."""

from __future__ import annotations

import time
from pathlib import Path

from aiohttp import web

from tests.servers.teacher_delivery import json_response
from tests.servers.tinker_faults import archive, extra_name, extra_size
from tests.servers.tinker_house import FAULT, House, Reply, body_of
from tests.servers.tinker_store import KINDS, Kept, Run, expiry, moment

_LINK_LIVES_S = 900
_RUN = "/api/v1/training_runs/{run}"
_CHECKPOINT = _RUN + "/checkpoints/{kind}/{name}"


class Rest:
    """What a client can ask without training or sampling."""

    def __init__(self, house: House) -> None:
        self.house = house

    def routes(self) -> list[web.RouteDef]:
        api = "/api/v1"
        return [
            web.get(f"{api}/healthz", self.health, name="healthz"),
            web.post(f"{api}/client/config", self.config, name="config"),
            web.post(f"{api}/client/dynamic_config", self.dynamic_config, name="dynamic_config"),
            web.post(f"{api}/telemetry", self.telemetry, name="telemetry"),
            web.post(f"{api}/create_session", self.session, name="create_session"),
            web.post(f"{api}/session_heartbeat", self.beat, name="session_heartbeat"),
            web.post(f"{api}/sessions/{{id}}/finish", self.finish, name="finish"),
            web.get(f"{api}/get_server_capabilities", self.capabilities, name="get_server_capabilities"),
            web.post(f"{api}/retrieve_future", self.retrieve, name="retrieve_future"),
            web.get(f"{api}/training_runs", self.runs, name="training_runs"),
            web.get(_RUN, self.run, name="training_run"),
            web.get(f"{_RUN}/checkpoints", self.checkpoints, name="checkpoints"),
            web.get(f"{api}/checkpoints", self.all_checkpoints, name="all_checkpoints"),
            web.post(f"{api}/weights_info", self.weights_info, name="weights_info"),
            web.delete(_CHECKPOINT, self.delete, name="delete_checkpoint"),
            web.put(f"{_CHECKPOINT}/ttl", self.ttl, name="ttl"),
            web.post(f"{_CHECKPOINT}/publish", self.publish, name="publish"),
            web.delete(f"{_CHECKPOINT}/publish", self.publish, name="unpublish"),
            web.get(f"{_CHECKPOINT}/external_weights_urls", self.urls, name="external_weights_urls"),
            web.get(f"{_CHECKPOINT}/archive", self.archive, name="archive"),
            web.get("/files/{run}/{kind}/{name}/archive.tar.gz", self.archive_file, name="archive_file"),
            web.get("/files/{run}/{kind}/{name}/{file}", self.file, name="file"),
        ]

    async def health(self, request: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    async def config(self, request: web.Request) -> web.Response:
        return json_response(self.house.orders.client_config)

    async def dynamic_config(self, request: web.Request) -> web.Response:
        return json_response({})

    async def telemetry(self, request: web.Request) -> web.Response:
        """Taken and dropped."""
        return json_response({"status": "accepted"})

    async def session(self, request: web.Request) -> web.Response:
        return json_response({"type": "create_session", "session_id": self.house.open_session()})

    async def beat(self, request: web.Request) -> web.Response:
        self.house.beat((await body_of(request))["session_id"])
        return json_response({"type": "session_heartbeat"})

    async def finish(self, request: web.Request) -> web.Response:
        self.house.check_session(request.match_info["id"])
        self.house.end_session(request.match_info["id"])
        return web.Response(status=204)

    async def capabilities(self, request: web.Request) -> web.Response:
        about = {"max_context_length": self.house.base.context, "trainable": True, "sampleable": True}
        models = [{"model_name": name, **about} for name in self.house.settings.names]
        return json_response({"supported_models": models})

    async def retrieve(self, request: web.Request) -> web.Response:
        id = (await body_of(request))["request_id"]
        return await self.house.promises.answer(id, request.headers.get("Accept", ""), self.house.orders)

    async def runs(self, request: web.Request) -> web.Response:
        found = self.house.shelf.runs()
        offset, limit = _page(request, 20)
        page = [self._run(run) for run in found[offset : offset + limit]]
        return json_response({"training_runs": page, "cursor": _cursor(offset, limit, len(found))})

    async def run(self, request: web.Request) -> web.Response:
        run = self.house.shelf.run(request.match_info["run"])
        if run is None:
            raise Reply(404, f"Training run {request.match_info['run']} does not exist")
        return json_response(self._run(run))

    def _run(self, run: Run) -> dict[str, object]:
        kept = self.house.shelf.all(run.id)
        latest = {kind: next((k.listed() for k in kept if k.kind == kind), None) for kind in KINDS}
        model = self.house.workshop.models.get(run.id)
        return {
            "training_run_id": run.id,
            "base_model": run.base_model,
            "model_owner": "tests",
            "is_lora": True,
            "corrupted": model is not None and model.failed is not None,
            "lora_rank": run.rank,
            "last_request_time": moment(kept[0].created if kept else run.created),
            "last_checkpoint": latest["weights"],
            "last_sampler_checkpoint": latest["sampler_weights"],
            "user_metadata": run.user_metadata,
        }

    async def checkpoints(self, request: web.Request) -> web.Response:
        found = self.house.shelf.all(request.match_info["run"])
        return json_response({"checkpoints": [kept.listed() for kept in found]})

    async def all_checkpoints(self, request: web.Request) -> web.Response:
        found = self.house.shelf.all()
        offset, limit = _page(request, 100)
        page = [kept.listed() for kept in found[offset : offset + limit]]
        return json_response({"checkpoints": page, "cursor": _cursor(offset, limit, len(found))})

    async def weights_info(self, request: web.Request) -> web.Response:
        kept = self.house.shelf.find((await body_of(request))["tinker_path"])
        run = self.house.shelf.run(kept.run)
        assert run is not None
        found = {
            "base_model": run.base_model,
            "is_lora": True,
            "lora_rank": run.rank,
            "train_unembed": run.train_unembed,
            "train_mlp": run.train_mlp,
            "train_attn": run.train_attn,
        }
        return json_response(found)

    async def delete(self, request: web.Request) -> web.Response:
        self.house.shelf.delete(self._named(request))
        return web.Response(status=204)

    async def ttl(self, request: web.Request) -> web.Response:
        kept, seconds = self._named(request), (await body_of(request)).get("ttl_seconds")
        try:
            self.house.shelf.change(kept, expires=expiry(seconds))
        except ValueError as e:
            raise Reply(400, str(e)) from e
        return web.Response(status=204)

    async def publish(self, request: web.Request) -> web.Response:
        self.house.shelf.change(self._named(request), public=request.method == "POST")
        return web.Response(status=204)

    async def urls(self, request: web.Request) -> web.Response:
        """A link for each file of external weights."""
        kept, fault = self._named(request), request.get(FAULT)
        if kept.kind != "external_weights":
            raise Reply(400, f"{kept.path} is no external weights")
        found = {path.name: self._link(request, kept, path.name) for path in self._files(kept)}
        if fault is not None and fault.kind != "member_link":
            found[extra_name(fault)] = self._link(request, kept, f"zeros-{extra_size(fault)}")
        return json_response({"urls": found, "expires": moment(time.time() + _LINK_LIVES_S)})

    async def archive(self, request: web.Request) -> web.Response:
        """Where SDKs before 0.38 find the whole checkpoint as one file."""
        link = self._link(request, self._named(request), "archive.tar.gz")
        return web.Response(status=302, headers={"Location": link})

    async def archive_file(self, request: web.Request) -> web.Response:
        kept = self._signed(request)
        body = archive(self._files(kept), request.get(FAULT))
        return web.Response(body=body, content_type="application/gzip")

    async def file(self, request: web.Request) -> web.StreamResponse:
        kept, name = self._signed(request), request.match_info["file"]
        if name.startswith("zeros-"):
            return web.Response(body=bytes(int(name.removeprefix("zeros-"))))
        path = next((p for p in self._files(kept) if p.name == name), None)
        if path is None:
            raise Reply(404, f"{kept.path} has no file {name}")
        return web.FileResponse(path)

    def _files(self, kept: Kept) -> list[Path]:
        """PEFT's two files."""
        folder = self.house.shelf.folder(kept)
        place = folder / "adapter" if kept.kind == "weights" else folder
        return sorted(path for path in place.iterdir() if path.name.startswith("adapter_"))

    def _link(self, request: web.Request, kept: Kept, file: str) -> str:
        # Whoever has the link may read: it carries a secret in the place of a key.
        place = f"{kept.run}/{kept.kind}/{kept.name}/{file}"
        return f"http://{request.host}/files/{place}?signature={self.house.secret}"

    def _signed(self, request: web.Request) -> Kept:
        if request.query.get("signature") != self.house.secret:
            raise Reply(403, "The link is not signed, or is of another time")
        return self._named(request)

    def _named(self, request: web.Request) -> Kept:
        found = request.match_info
        return self.house.shelf.find(f"tinker://{found['run']}/{found['kind']}/{found['name']}")


def _page(request: web.Request, limit: int) -> tuple[int, int]:
    return int(request.query.get("offset", 0)), int(request.query.get("limit", limit))


def _cursor(offset: int, limit: int, total: int) -> dict[str, int]:
    return {"offset": offset, "limit": limit, "total_count": total}
