"""An engine: that of torch and peft, with settings and an identity of its own."""

from __future__ import annotations

from core.base_model import resolve_model
from core.config import EngineSettings
from core.engines import ALL_LOSSES, Capabilities, Engine
from core.engines.local import LocalEngine
from understudy import register_engine


@register_engine("one_thread")
class OneThreadSettings(EngineSettings):
    """torch and peft on one CPU thread, in fp32."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(losses=ALL_LOSSES)

    def open(self, model: str) -> Engine:
        return LocalEngine(lambda: resolve_model(model), device="cpu", train_dtype="float32", threads=1)
