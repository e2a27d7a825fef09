"""What the installed SDK can do, asked of the SDK itself: which calls it has and what they take."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import os
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sdk:
    """The SDK and what tells its versions apart."""

    module: Any
    version: str
    targets: bool
    """Samples can name the tokens to score at each place of the prompt."""
    own_rest: bool
    """What needs no session has a client of its own."""
    external: bool
    """Adapters are taken home file by file; else as one archive."""

    def rest(self, service: Any, server: str, key: str) -> Any:
        """A client for listing, deleting and the like."""
        if self.own_rest:
            return self.module.RestClient(base_url=server, api_key=key)
        return service().create_rest_client()


@functools.cache
def load() -> Sdk:
    """Import the SDK, its telemetry off unless the user asked for it. Raises ConfigError without it."""
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    try:
        tinker = importlib.import_module("tinker")
    except ImportError as error:
        raise ConfigError(
            f"the tinker engine needs the tinker SDK, which is installed with understudy-distill ({error}); "
            "reinstall understudy-distill"
        ) from None
    rest = getattr(tinker, "RestClient", None)
    return Sdk(
        module=tinker,
        version=importlib.metadata.version("tinker"),
        targets=_takes(tinker.SamplingClient.sample, "target_prompt_logprobs"),
        own_rest=rest is not None and _takes(rest.__init__, "base_url"),
        external=hasattr(tinker.TrainingClient, "save_weights_external")
        and hasattr(rest, "get_external_weights_urls"),
    )


def _takes(call: Any, name: str) -> bool:
    return name in inspect.signature(call).parameters
