"""Settings of the local engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from core.config.engine import EngineSettings, TrainingOnly, register_engine
from core.engines.base import Capabilities, Device
from core.engines.losses import ALL_LOSSES

if TYPE_CHECKING:
    from core.engines.local.engine import LocalEngine


@register_engine("local")
class LocalSettings(EngineSettings):
    """torch and peft in this process, on a CPU or one GPU."""

    packages: ClassVar = ("torch", "peft", "transformers")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""
    train_dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], TrainingOnly("sampling is always float32")
    ] = "auto"
    """auto: bfloat16 autocast if the processor has instructions for it, else float32."""
    threads: int | None = Field(None, ge=1)
    """CPU threads; by default torch's own choice. They decide the last bits of results."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(losses=ALL_LOSSES)

    @property
    def device_here(self) -> Device:
        return Device(self.device, self.threads)

    def open(self, model: str) -> LocalEngine:
        from core.base_model import resolve_model
        from core.engines.local.engine import LocalEngine

        return LocalEngine(
            lambda: resolve_model(model),
            device=self.device,
            train_dtype=self.train_dtype,
            threads=self.threads,
        )
