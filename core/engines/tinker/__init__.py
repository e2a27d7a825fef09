"""The Tinker engine: trains and samples on a server that implements the Tinker protocol.

Nothing here imports the SDK before the engine sends a request, so that planning stays fast.
"""

from core.engines.tinker.engine import TinkerEngine, TinkerSettings
from core.engines.tinker.service import Connection, server_address

__all__ = ["Connection", "TinkerEngine", "TinkerSettings", "server_address"]
