"""The Tinker engine: its settings, and sessions and samplers over one base model on a server."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field

from core import jsonio
from core.config import CONTENT, LOCAL, MODEL, EngineSettings, NotInKey, register_engine
from core.engines import (
    ALL_LOSSES,
    Capabilities,
    Checkpoint,
    Engine,
    EngineIdentity,
    LoraSpec,
    RemoteCheckpoint,
    SamplerRef,
    StateRef,
)
from core.engines.interface import DownloadedAdapter
from core.engines.tinker import checkpoints
from core.engines.tinker.checkpoints import Saved, checkpoint_at, require_path
from core.engines.tinker.sampler import TinkerSampler
from core.engines.tinker.service import Connection, Service, has_current_sdk, sdk_version, server_address
from core.engines.tinker.session import TinkerSession
from core.errors import ConfigError, ModelError, SessionLost

if TYPE_CHECKING:
    from core.base_model import ModelSource
    from core.cost import TrainingPrice

ALPHA = 32.0
"""Servers scale an adapter by this over its rank; the protocol has no field for it."""


@register_engine("tinker")
class TinkerSettings(EngineSettings):
    """The Tinker service, or a server that speaks its protocol. The key is in TINKER_API_KEY."""

    packages: ClassVar = ("tinker", "transformers")

    base_url: Annotated[str | None, NotInKey("the resolved server is in the keys")] = None
    """The server; by default TINKER_BASE_URL, else the hosted service."""
    checkpoint_ttl_days: Annotated[
        float | None, NotInKey("how long a server keeps a checkpoint affects no result")
    ] = Field(7.0, ge=1 / 24)
    """Days that checkpoints stay on the server; the chosen one stays forever. null: all stay forever."""
    max_concurrent_requests: Annotated[int, NotInKey("speed affects no result")] = Field(64, ge=1)
    """Scoring and generation requests in flight at once, for each evaluation."""
    overlap: Annotated[bool, NotInKey("when a checkpoint is evaluated affects no result")] = True
    """Evaluate checkpoints while training continues. false for servers that load a sampled checkpoint
    over the weights in training."""
    prices: Annotated[str | None, NotInKey("money affects no result"), LOCAL] = "configs/prices.yaml"
    """A YAML file of prices (its `students:`); null counts tokens only."""
    local_model: Annotated[str | None, CONTENT, MODEL] = None
    """The same base model for the local engine, named as in `student.model`. The downloaded adapter is then
    loaded and compared with the server's scores, and the bundle can hold merged weights."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            remote=True,
            checkpoints_expire=True,
            metered=True,
            overlaps_evaluation=self.overlap,
            local_weights=False,
            can_merge=self.local_model is not None,
            losses=ALL_LOSSES,
        )

    def open(self, model: str) -> TinkerEngine:
        return TinkerEngine(model, Connection(server_address(self.base_url)), self)

    @classmethod
    def for_server(cls, server: str | None) -> Self:
        return cls(base_url=server)


class TinkerEngine(Engine):
    """Trains and samples on a Tinker server; `model` is the server's name for the base model."""

    def __init__(self, model: str, connection: Connection, settings: TinkerSettings | None = None) -> None:
        self.model, self.server, self.service = model, connection.server, Service(connection)
        self.settings = settings or TinkerSettings()

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("tinker", server=self.server, base_digest=jsonio.digest(self.model))

    @property
    def fingerprint(self) -> dict[str, str]:
        """The SDK's version, the server and its name for the base model: bits may differ between runs."""
        return {
            "engine": "tinker",
            "tinker": sdk_version(),
            "server": self.server,
            "model": self.model,
            "base_digest": self.identity.base_digest,
        }

    @cached_property
    def local_model(self) -> ModelSource | None:
        from core.base_model import resolve_model

        named = self.settings.local_model
        return None if named is None else resolve_model(named)

    @property
    def price(self) -> TrainingPrice | None:
        from core.cost import load_prices

        prices = self.settings.prices
        return None if prices is None else load_prices(prices).students.get(self.model)

    def require_credentials(self) -> None:
        self.service.connection.require_key()

    def check(self, lora: LoraSpec | None = None) -> None:
        """Check that the server can be reached, accepts the key and serves the model.

        Raises PassingError, ConfigError for the key or LoRA settings that the protocol does not have, and
        ModelError with the closest names for another model.
        """
        self.require_credentials()
        if lora is not None:
            _require_supported(lora)
        self.service.connection.probe()
        doing = "the list of models"
        if has_current_sdk():
            served = self.service.query(lambda rest: rest.get_server_capabilities(), doing)
        else:
            served = self.service.open(lambda service: service.get_server_capabilities(), doing).sdk
        names = [model.model_name for model in served.supported_models if model.model_name]
        if self.model not in names:
            near = difflib.get_close_matches(self.model, names, n=3, cutoff=0.3) or sorted(names)[:3]
            raise ModelError(
                f"student.model: {self.server} does not serve {self.model!r}; nearest: {', '.join(near)}"
            )

    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimizer: bool = True) -> TinkerSession:
        """Open a session: a new adapter from `lora.seed`, or a saved state.

        Raises ConfigError as `check`, CheckpointGone, SessionLost, and ModelError for a state of another
        model or adapter.
        """
        _require_supported(lora)
        if from_state is None:
            client = self.service.open(
                lambda service: service.create_lora_training_client(
                    base_model=self.model,
                    rank=lora.rank,
                    seed=lora.seed,
                    train_mlp=lora.train_mlp,
                    train_attn=lora.train_attention,
                    train_unembed=lora.train_unembed,
                ),
                "a new adapter",
            )
        else:
            path = require_path(from_state)
            self._require_same(lora, path)
            restore = "create_training_client_from_state" + ("_with_optimizer" if optimizer else "")
            client = self.service.open(
                lambda service: getattr(service, restore)(path), "restoring the saved state"
            )
        self.service.queue.observe(client.sdk)
        tip = checkpoint_at(self.identity, from_state) if from_state and optimizer else None
        days = self.settings.checkpoint_ttl_days
        ttl_s = None if days is None else round(days * 24 * 3600)
        return TinkerSession(client, self.identity, self.model, lora, ttl_s, tip)

    def sampler(
        self, ref: SamplerRef | None, *, merge: bool = True, owns_engine: bool = False
    ) -> TinkerSampler:
        """Open a sampling client. Raises CheckpointGone, SessionLost. The server decides about `merge`."""
        weights = {"base_model": self.model} if ref is None else {"model_path": require_path(ref)}
        try:
            client = self.service.open(lambda service: service.create_sampling_client(**weights), "a sampler")
        except SessionLost:
            if ref is not None:
                checkpoints.require(self.service, ref)
            raise
        outstanding, on_close = self.settings.max_concurrent_requests, self.close if owns_engine else None
        return TinkerSampler(client, outstanding=outstanding, on_close=on_close)

    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        """Return the paths in a session's folder. Raises ModelError, also for another server's."""
        saved = Saved.of(folder)
        if saved.server != self.server:
            raise ModelError(f"the checkpoint in {folder} is on {saved.server}, not on {self.server}")
        return saved.refs()

    def checkpoint_exists(self, checkpoint: Checkpoint) -> bool:
        refs = (checkpoint.state, checkpoint.sampler)
        return all(checkpoints.find(self.service, ref) is not None for ref in refs)

    def report_waits(self, report: Callable[[str], None]) -> AbstractContextManager[None]:
        return self.service.reporting(report)

    def keep(self, checkpoint: Checkpoint) -> None:
        for ref in (checkpoint.state, checkpoint.sampler):
            # A server that lists no expiry cannot be asked to drop it.
            if checkpoints.require(self.service, ref).expires is not None:
                checkpoints.keep(self.service, ref.location)

    def checkpoints(self) -> list[RemoteCheckpoint]:
        return checkpoints.listed(self.service)

    def remove(self, location: str) -> None:
        checkpoints.remove(self.service, location)

    def download_adapter(self, checkpoint: Checkpoint, folder: Path) -> DownloadedAdapter:
        return checkpoints.download_adapter(self.service, checkpoint, folder)

    def close(self) -> None:
        self.service.close()

    def _require_same(self, lora: LoraSpec, path: str) -> None:
        """Raise ModelError if a state is of another model or adapter, as far as the server describes it."""
        found = self.service.query(
            lambda rest: rest.get_weights_info_by_tinker_path(path), f"the state {path}"
        )
        for what, there, wanted in (
            ("base model", found.base_model, self.model),
            ("rank", found.lora_rank, lora.rank),
            ("mlp switch", found.train_mlp, lora.train_mlp),
            ("attention switch", found.train_attn, lora.train_attention),
            ("unembed switch", found.train_unembed, lora.train_unembed),
        ):
            if there is not None and there != wanted:
                raise ModelError(
                    f"training state {path} is of another {what}: it has {there}, this run {wanted}"
                )


def _require_supported(lora: LoraSpec) -> None:
    for name, found, wanted in (("alpha", lora.alpha, ALPHA), ("dropout", lora.dropout, 0.0)):
        if found != wanted:
            raise ConfigError(
                f"student.lora.{name} is {found:g}, but the Tinker protocol does not have this setting and "
                f"servers always use {wanted:g}; set it to {wanted:g}, or use student.engine: local"
            )
