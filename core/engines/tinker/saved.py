"""What a save leaves in the stage's folder: where its two parts lie on the server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from core import jsonio
from core.engines.base import Checkpoint, EngineIdentity, LoraSpec, SamplerRef, StateRef
from core.engines.tinker.paths import require_path
from core.errors import ModelError

FILE = "tinker.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """A save on a server."""

    server: str
    model: str
    run: str
    """The training run on the server."""
    name: str
    step: int
    digest: str
    state: str
    sampler: str
    ttl_seconds: int | None
    """Time to live that was asked for at the save; None: for ever."""
    lora: LoraSpec
    sdk: str

    def write(self, folder: Path) -> None:
        """As tinker.json."""
        jsonio.write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Saved:
        """Raises ModelError where there is none, or it cannot be read."""
        path = folder / FILE
        try:
            value = jsonio.read_json(path)
            return cls(**{**value, "lora": LoraSpec(**value["lora"])})
        except FileNotFoundError:
            raise ModelError(
                f"no checkpoint of a Tinker server in {folder}: {FILE} is missing; name a folder that a "
                f"run saved"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{path} cannot be read ({error}); restore it or train again") from error

    def refs(self) -> tuple[StateRef, SamplerRef]:
        """Return both paths. Raises ModelError for a path of another kind."""
        state, sampler = StateRef(self.state), SamplerRef(self.sampler)
        require_path(state)
        require_path(sampler)
        return state, sampler

    def checkpoint(self, identity: EngineIdentity) -> Checkpoint:
        """The value that names both."""
        state, sampler = self.refs()
        return Checkpoint(engine=identity, step=self.step, digest=self.digest, state=state, sampler=sampler)


def digest_of(server: str, state: StateRef) -> str:
    """What stands for weights that nobody here has seen: the one place where they lie."""
    return jsonio.digest([server, state.location])


def base_digest(model: str) -> str:
    """What stands for a base model that nobody here has: the server's name for it."""
    return jsonio.digest(model)
