"""The Tinker engine: opens sessions and samplers over one base model on a server."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.base import (
    Capabilities,
    Checkpoint,
    EngineIdentity,
    LoraSpec,
    SamplerRef,
    StateRef,
    Usage,
)
from core.engines.losses import ALL_LOSSES
from core.engines.tinker import checkpoints, sdk
from core.engines.tinker.connection import Connection
from core.engines.tinker.home import LARGEST, Adapter, take_home
from core.engines.tinker.paths import name_of, sampler_beside
from core.engines.tinker.sampler import TinkerSampler
from core.engines.tinker.saved import Saved, base_digest, digest_of
from core.engines.tinker.service import Client, Service
from core.engines.tinker.session import Course, TinkerSession
from core.engines.tinker.usage import Meter
from core.engines.tinker.waiting import Report, Watch
from core.errors import ConfigError, ModelError, SessionLost

if TYPE_CHECKING:
    from core.engines.tinker.checkpoints import Listed

ALPHA = 32.0
"""What servers scale an adapter by, over its rank; the protocol has no word for it."""
WEEK_S = 7 * 24 * 3600


class TinkerEngine:
    """Implements core.engines.base.Engine on a server of the Tinker protocol.

    `model` is the server's name for the base model. Saves live for `ttl_s` seconds unless `keep` is
    called (None: for ever); a sampler has at most `outstanding` requests on their way; `report` is
    told of each wait. Making one asks nothing of the network; `check` does.
    """

    def __init__(
        self,
        model: str,
        connection: Connection,
        *,
        ttl_s: int | None = WEEK_S,
        outstanding: int = 64,
        top_k: int = 20,
        report: Report | None = None,
        tick_s: float = 1.0,
    ) -> None:
        self.model, self.server = model, connection.server
        self.watch = Watch(report, tick_s=tick_s)
        self.service = Service(connection, self.watch)
        self._ttl_s, self._outstanding, self._top_k = ttl_s, outstanding, top_k
        self._meter = Meter()

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity(kind="tinker", server=self.server, base_digest=base_digest(self.model))

    @property
    def capabilities(self) -> Capabilities:
        """Exact scoring as far as the SDK can ask for it; what a server gave, each score says itself."""
        return Capabilities(
            overlaps_evaluation=True,
            exact_scoring=sdk.load().targets,
            grad_clipping=True,
            losses=ALL_LOSSES,
        )

    @property
    def fingerprint(self) -> dict[str, str]:
        """The SDK's version, the server and its name for the base model: no promise of equal bits."""
        return {
            "engine": "tinker",
            "tinker": sdk.load().version,
            "server": self.server,
            "model": self.model,
            "base_digest": self.identity.base_digest,
        }

    @property
    def usage(self) -> Usage:
        """Tokens of all sessions and samplers until now."""
        return self._meter.usage

    def check(self, lora: LoraSpec | None = None) -> None:
        """Ask the server, before any work, whether it is there, takes the key and has the model.

        Raises PassingError where it is not there, ConfigError for a key that it refuses and for what
        of `lora` it cannot be told, ModelError, with the nearest names, for a model that it does not
        have.
        """
        if lora is not None:
            _refuse_untold(lora)
        self.service.connection.probe()
        names = self.models()
        if self.model not in names:
            near = difflib.get_close_matches(self.model, names, n=3, cutoff=0.3) or sorted(names)[:3]
            raise ModelError(
                f"student.model: {self.server} does not serve {self.model!r}; nearest: {', '.join(near)}"
            )

    def models(self) -> list[str]:
        """The names of the base models that the server serves."""
        doing = "the list of models"
        if sdk.load().own_rest:
            found = self.service.look(lambda rest: rest.get_server_capabilities(), doing)
        else:
            found, _ = self.service.ask(lambda service: service.get_server_capabilities(), doing)
        return [model.model_name for model in found.supported_models if model.model_name]

    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimiser: bool = True) -> TinkerSession:
        """A session: a new adapter from `lora.seed`, or a saved state, without `optimiser` its weights alone.

        The output layer is best left out (`train_unembed`, off): servers give adapters with it that
        they, or those who load the adapter later, cannot load. Raises ConfigError for settings that
        a server cannot be told, CheckpointGone, ModelError for a state of another model or adapter,
        SessionLost.
        """
        _refuse_untold(lora)
        if from_state is None:
            client, owner = self.service.ask(lambda service: self._new(service, lora), "a new adapter")
        else:
            self._refuse_other(lora, from_state)
            path = from_state.location
            client, owner = self.service.ask(
                lambda service: _restored(service, path, optimiser=optimiser), "the saved state's restoring"
            )
        self.watch.queue.observe(client)
        tip = self._checkpoint_at(from_state) if from_state and optimiser else None
        course = Course(self.identity, self.model, lora, self._ttl_s)
        return TinkerSession(Client(client, owner, self.service), course, Meter(self._meter), tip)

    def sampler(self, ref: SamplerRef | None, *, alone: bool = False) -> TinkerSampler:
        """A new sampling client, over a checkpoint or the base model. Raises CheckpointGone, SessionLost.

        With `alone` nothing else needs this engine: closing the sampler closes it too.
        """
        asked: dict[str, Any] = {"base_model": self.model} if ref is None else {"model_path": ref.location}
        try:
            client, owner = self.service.ask(
                lambda service: service.create_sampling_client(**asked), "a sampler"
            )
        except SessionLost:
            if ref is not None:
                checkpoints.require(self.service, ref)
            raise
        return TinkerSampler(
            Client(client, owner, self.service),
            Meter(self._meter),
            outstanding=self._outstanding,
            top_k=self._top_k,
            closing=self.close if alone else None,
        )

    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        """What a session's save wrote into `folder`. Raises ModelError, also for another server's."""
        saved = Saved.read(folder)
        if saved.server != self.server:
            raise ModelError(f"the checkpoint in {folder} lies on {saved.server}, not on {self.server}")
        return saved.refs()

    def knows(self, checkpoint: Checkpoint) -> bool:
        """Whether the server still has both its parts."""
        refs = (checkpoint.state, checkpoint.sampler)
        return all(checkpoints.find(self.service, ref) is not None for ref in refs)

    def waits(self, tell: Callable[[str], None]) -> AbstractContextManager[None]:
        """Within it, this thread's waits are told: for what, since when, and what the queue said."""
        return self.watch.telling(lambda wait: tell(str(wait)))

    def keep(self, checkpoint: Checkpoint) -> None:
        """Let a checkpoint live for ever. Raises CheckpointGone."""
        for ref in (checkpoint.state, checkpoint.sampler):
            # Servers that know no times cannot be told to forget them either.
            if checkpoints.require(self.service, ref).expires is not None:
                checkpoints.set_ttl(self.service, ref.location, None)

    def expire(self, checkpoint: Checkpoint, ttl_s: int | None) -> None:
        """Give both its parts so many seconds from now. Raises CheckpointGone."""
        for ref in (checkpoint.state, checkpoint.sampler):
            checkpoints.set_ttl(self.service, ref.location, ttl_s)

    def checkpoints(self) -> list[Listed]:
        """All that the server has of ours, the latest first."""
        return checkpoints.listed(self.service)

    def remove(self, location: str) -> None:
        """Delete one of them. Raises CheckpointGone."""
        checkpoints.remove(self.service, location)

    def take_home(self, checkpoint: Checkpoint, folder: Path, *, limit: int = LARGEST) -> Adapter:
        """Download a checkpoint's adapter into a new folder, in PEFT's layout; see home."""
        return take_home(self.service, checkpoint, folder, limit=limit)

    def close(self) -> None:
        """Finish the session on the server."""
        self.service.close()

    def _new(self, service: Any, lora: LoraSpec) -> Any:
        return service.create_lora_training_client(
            base_model=self.model,
            rank=lora.rank,
            seed=lora.seed,
            train_mlp=lora.train_mlp,
            train_attn=lora.train_attention,
            train_unembed=lora.train_unembed,
        )

    def _refuse_other(self, lora: LoraSpec, state: StateRef) -> None:
        """The server says what it saved; a value that it does not say is not compared."""
        found = self.service.look(
            lambda rest: rest.get_weights_info_by_tinker_path(state.location), f"the state {state.location}"
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
                    f"training state {state.location} is of another {what}: it has {there}, this run {wanted}"
                )

    def _checkpoint_at(self, state: StateRef) -> Checkpoint | None:
        """The checkpoint that a session of this engine saved there; None for others' states."""
        name = name_of(state.location)
        if name is None:
            return None
        digest = digest_of(self.server, state)
        return Checkpoint(self.identity, name.step, digest, state, sampler_beside(state))


def _restored(service: Any, path: str, *, optimiser: bool) -> Any:
    if optimiser:
        return service.create_training_client_from_state_with_optimizer(path)
    return service.create_training_client_from_state(path)


def _refuse_untold(lora: LoraSpec) -> None:
    for name, found, wanted in (("alpha", lora.alpha, ALPHA), ("dropout", lora.dropout, 0.0)):
        if found != wanted:
            raise ConfigError(
                f"student.lora.{name} is {found:g}, but a Tinker server cannot be told it and trains with "
                f"{wanted:g}; set it to {wanted:g}, or take student.engine: local"
            )
