"""What has to stand in the environment before Prefect is imported, and whether `core` is ours."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from core.errors import UserError

_DEFAULTS = {
    # Nothing is sent anywhere: Prefect's server would report its use otherwise.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # The temporary server takes 12 s of CPU to start, more on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Our own lines appear in Prefect's pages too.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "core,tasks,flows",
    "TOKENIZERS_PARALLELISM": "false",
}


_QUIET = {
    # Prefect's pages show its own lines and tracebacks; a terminal has ours, a sentence each.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "TRANSFORMERS_VERBOSITY": "error",
}


def prepare(*, debug: bool = False) -> None:
    """Set what is not set. Raises UserError where another `core` or `tasks` shadows ours."""
    for name, value in (_DEFAULTS if debug else {**_DEFAULTS, **_QUIET}).items():
        os.environ.setdefault(name, value)
    check_packages()


def check_packages() -> None:
    """A folder `core/` in the working directory hides the installed one wherever that directory
    is on the path; say so instead of failing at some import."""
    home = Path(__file__).resolve().parents[1]
    for name in ("core", "tasks", "flows"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
        if found != home:
            places = list(spec.submodule_search_locations or []) if spec else []
            where = found or (places[0] if places else "nowhere")
            raise UserError(
                f"the package {name} is taken from {where} instead of {home}: a folder of that name "
                "shadows ours; run from another directory, or rename the folder"
            )
