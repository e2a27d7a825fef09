"""The Tinker engine: trains and samples on a server that speaks the Tinker protocol.

Nothing here imports the SDK before the engine is asked to work, so that whoever only plans does
not wait for it. What a version of the SDK can do is asked of it, in `sdk`.
"""

from __future__ import annotations

from core.engines.tinker.connection import Connection, connection
from core.engines.tinker.engine import TinkerEngine
from core.engines.tinker.waiting import Wait

__all__ = ["Connection", "TinkerEngine", "Wait", "connection"]
