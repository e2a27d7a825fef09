"""An engine: that of torch and peft, with settings and an identity of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.config.engine import EngineSettings
from core.engines.base import Capabilities
from core.engines.losses import ALL_LOSSES
from understudy import register_engine

if TYPE_CHECKING:
    from core.engines.base import Engine


@register_engine("one_thread")
class OneThreadSettings(EngineSettings):
    """torch and peft on one CPU thread, in fp32."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(losses=ALL_LOSSES)

    def open(self, model: str) -> Engine:
        from core.base_model import resolve_model
        from core.engines.local.engine import LocalEngine

        return LocalEngine(lambda: resolve_model(model), device="cpu", train_dtype="float32", threads=1)
