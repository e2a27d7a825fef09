"""`trackers:`: services that receive a run's curves and metrics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.config.base import ANYWHERE, Section


class WandbConfig(Section):
    """Weights & Biases (`pip install 'understudy-distill[wandb]'`); its key is in WANDB_API_KEY."""

    project: str = Field("understudy", min_length=1)
    """The project there."""
    entity: str | None = None
    """The user or team; by default the key's own."""
    mode: Literal["online", "offline", "disabled"] = "online"
    """offline leaves a folder that `wandb sync` sends later (in WANDB_DIR, else the working directory)."""


class MlflowConfig(Section):
    """MLflow (`pip install 'understudy-distill[mlflow]'`); credentials: MLFLOW_TRACKING_*."""

    tracking_uri: Annotated[str | None, ANYWHERE] = None
    """A server, a database or a folder; by default MLFLOW_TRACKING_URI, else MLflow's own choice."""
    experiment: str = Field("understudy", min_length=1)
    """The experiment there, made where it is missing."""


class TrackersConfig(Section):
    """Services that receive a run's metrics. One that fails causes a warning and does not stop the run."""

    wandb: WandbConfig | None = None
    """Weights & Biases; {} takes its defaults."""
    mlflow: MlflowConfig | None = None
    """MLflow; {} takes its defaults."""
    patience_s: float = Field(5.0, ge=0, le=600)
    """Seconds that a run waits at its end for a tracker; what is left is sent without it."""
