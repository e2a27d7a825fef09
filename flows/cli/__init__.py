"""The command line. Imports neither Prefect nor torch before a command needs them."""

from __future__ import annotations

from flows.cli.commands import main

__all__ = ["main"]
