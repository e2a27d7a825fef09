"""Which engine a config means, and what of it goes into keys before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.config.student import StudentConfig
from core.engines.base import Engine
from core.engines.tinker.connection import connection, server_address
from core.engines.tinker.saved import base_digest

if TYPE_CHECKING:
    from core.engines.local.weights import ModelSource


def open_engine(student: StudentConfig, source: Callable[[], ModelSource]) -> Engine:
    """The engine over the base model; `source` finds a local one's files.

    Opening a remote one asks nothing of the network yet. Raises ConfigError, ModelError.
    """
    if student.engine == "tinker":
        from core.engines.tinker import TinkerEngine

        ttl = student.checkpoint_ttl_days
        return TinkerEngine(
            student.model,
            connection(student.tinker_base_url),
            ttl_s=None if ttl is None else round(ttl * 24 * 3600),
            outstanding=student.outstanding,
        )
    from core.engines.local import LocalEngine

    return LocalEngine(
        source(), device=student.device, train_dtype=student.train_dtype, threads=student.threads
    )


def remote_ingredients(student: StudentConfig) -> dict[str, str]:
    """The server and its name for the base model; no key is needed. Raises ConfigError for no address."""
    return {
        "base_model": base_digest(student.model),
        "server": server_address(student.tinker_base_url),
    }
