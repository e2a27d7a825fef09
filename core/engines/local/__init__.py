"""The local engine: torch and peft in this process. Importing it does not import torch."""

from core.engines.local.engine import LocalEngine, LocalSettings, check_fits, open_peft, write_merged

__all__ = ["LocalEngine", "LocalSettings", "check_fits", "open_peft", "write_merged"]
