"""Settings of the Tinker engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field

from core.config.base import CONTENT, LOCAL, MODEL, NotInKey
from core.config.engine import EngineSettings, register_engine
from core.engines.base import Capabilities
from core.engines.losses import ALL_LOSSES

if TYPE_CHECKING:
    from core.engines.tinker.engine import TinkerEngine


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
        from core.engines.tinker.engine import TinkerEngine
        from core.engines.tinker.service import Connection, server_address

        return TinkerEngine(model, Connection(server_address(self.base_url)), self)

    @classmethod
    def for_server(cls, server: str | None) -> Self:
        return cls(base_url=server)
