"""Names of checkpoints on a server: they carry key, step and writer, so that no two collide."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from core.engines.base import SamplerRef, SaveLabel, StateRef
from core.errors import ModelError

# Letters, digits, - and _ are what every server takes.
_NAME = re.compile(
    r"understudy-(?P<key>[A-Za-z0-9]+)-step(?P<step>[0-9]+)-(?P<writer>[A-Za-z0-9]+)-(?P<nonce>[0-9a-f]+)"
)
_SAMPLER = ("sampler_weights", "sampler's weights")
_ODD = re.compile(r"[^A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class SaveName:
    """What one save is called; state and sampler's weights share it."""

    key: str
    step: int
    writer: str
    nonce: str
    """Another for each attempt: a save that nobody heard of again blocks no later one."""

    @classmethod
    def new(cls, label: SaveLabel | None, step: int) -> SaveName:
        """A name that no save had before."""
        key = _ODD.sub("", label.key)[:16] if label else ""
        writer = _ODD.sub("", label.writer)[:16] if label else ""
        return cls(key or "none", step, writer or "none", secrets.token_hex(4))

    @classmethod
    def read(cls, name: str) -> SaveName | None:
        """The parts of a name that `new` made; None for others."""
        found = _NAME.fullmatch(name)
        return found and cls(found["key"], int(found["step"]), found["writer"], found["nonce"])

    def __str__(self) -> str:
        return f"understudy-{self.key}-step{self.step:06d}-{self.writer}-{self.nonce}"


def require_path(ref: StateRef | SamplerRef) -> str:
    """Return the path of a state, or of a sampler's weights. Raises ModelError for any other location."""
    kind, what = ("weights", "training state") if isinstance(ref, StateRef) else _SAMPLER
    if not re.fullmatch(rf"tinker://[^/]+/{kind}/[^/]+", ref.location):
        raise ModelError(
            f"{ref.location} is not the path of a {what}; such a path reads tinker://<run>/{kind}/<name>"
        )
    return ref.location


def run_of(location: str) -> str:
    """The training run on the server that a path belongs to."""
    return location.removeprefix("tinker://").split("/")[0]


def name_of(location: str) -> SaveName | None:
    """The name at the end of a path, if it is one of ours."""
    return SaveName.read(location.rsplit("/", 1)[-1])


def sampler_beside(state: StateRef) -> SamplerRef:
    """The sampler's weights that were saved under the same name."""
    return SamplerRef(state.location.replace("/weights/", "/sampler_weights/"))


def sampler_ref(path: str) -> SamplerRef:
    """The reference to a path as a server gave it. Some (SkyRL 0.3) leave out what kind of path it is."""
    run, _, name = path.removeprefix("tinker://").partition("/")
    return SamplerRef(path if "/" in name else f"tinker://{run}/sampler_weights/{name}")
