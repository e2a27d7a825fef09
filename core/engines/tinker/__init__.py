"""The Tinker engine: trains and samples on a server that implements the Tinker protocol.

Nothing here imports the SDK before the engine sends a request, so that planning stays fast. The features of
the installed SDK are read in `sdk`.
"""

from __future__ import annotations

from core.engines.tinker.connection import Connection, server_address
from core.engines.tinker.engine import TinkerEngine
from core.engines.tinker.waiting import Wait

__all__ = ["Connection", "TinkerEngine", "Wait", "server_address"]
