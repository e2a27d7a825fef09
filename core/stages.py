"""What a stage is to the pipeline: a name, a frozen slice of the config, inputs, and a function.

The key of a stage hashes its whole slice, the digests of what its paths hold, the digests of
what it reads, and its version; so a forgotten field can cost a re-run, never a stale result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core import jsonio
from core.config.base import Section, key_fields
from core.errors import PassingError, StoreError, UnderstudyError
from core.progress import Progress
from core.stageio import StageIO
from core.store.manifest import Manifest
from core.store.objects import Store

log = logging.getLogger(__name__)
Run = Callable[[Any, StageIO], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """One call of a stage. `slot` names it in the run's record ("train/40"), `label` for people."""

    name: str
    version: int
    slice: Section
    content: Mapping[str, str]
    inputs: Mapping[str, Manifest]
    run: Run
    slot: str = ""
    label: str = ""
    on_commit: Callable[[Manifest], None] | None = None
    key: str = field(init=False)
    ingredients: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        ingredients: dict[str, Any] = {"version": self.version}
        ingredients.update(_flat("config", key_fields(self.slice)))
        ingredients.update({f"content.{k}": v for k, v in self.content.items()})
        ingredients.update({f"input.{k}": m.digest for k, m in self.inputs.items()})
        object.__setattr__(self, "ingredients", ingredients)
        object.__setattr__(self, "key", jsonio.digest([self.name, ingredients])[:32])
        object.__setattr__(self, "slot", self.slot or self.name)
        object.__setattr__(self, "label", self.label or self.name)


def _flat(at: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {at: value}
    out: dict[str, Any] = {}
    for name, inner in value.items():
        escaped = str(name).replace(".", "\\.")  # a user's own names may hold dots, fields do not
        out.update(_flat(f"{at}.{escaped}", inner))
    return out


def changed(stage: Stage, earlier: Mapping[str, Any]) -> list[str]:
    """The ingredients that differ from an earlier record, as `name changed from a to b`."""
    names = [*stage.ingredients, *(n for n in earlier if n not in stage.ingredients)]
    out = []
    for name in names:
        old, new = earlier.get(name), stage.ingredients.get(name)
        if old != new:
            out.append(f"{name} changed from {_short(old)} to {_short(new)}")
    return out


def _short(value: Any) -> str:
    text = str(value)
    return text[:10] if len(text) == 64 else text[:60]


@dataclass(frozen=True, slots=True)
class Made:
    """A stage's object, and whether it was there already."""

    manifest: Manifest
    reused: bool


def make(store: Store, stage: Stage, progress: Progress, *, refresh: bool = False) -> Made:
    """The stage's object: found whole in the store, or made now; with `refresh`, always made.

    Where another run is making it, waits for that one. What the stage raises passes through, after
    its half-made files are removed. The system's own errors (a full disk, say) become a StoreError
    that says where and what to do.
    """
    if not refresh and (manifest := store.sound(stage.name, stage.key)) is not None:
        return Made(manifest, reused=True)
    with store.lease(f"{stage.name}/{stage.key}", stage.label):
        if not refresh and (manifest := store.sound(stage.name, stage.key)) is not None:
            return Made(manifest, reused=True)
        manifest = _made(store, stage, progress, refresh=refresh)
    if stage.on_commit is not None:
        stage.on_commit(manifest)
    return Made(manifest, reused=False)


def _made(store: Store, stage: Stage, progress: Progress, *, refresh: bool) -> Manifest:
    inputs = {name: store.folder(m) for name, m in stage.inputs.items()}
    folder = store.begin(stage.name, stage.key)
    started = time.monotonic()
    try:
        summary = stage.run(stage.slice, StageIO(inputs, folder, progress, stage.key))
        summary = {**summary, "seconds": round(time.monotonic() - started, 2)}
        return store.commit(stage.name, stage.key, folder, stage.ingredients, summary, replace=refresh)
    except UnderstudyError:
        store.abandon(folder)
        raise
    except (ConnectionError, TimeoutError) as e:
        store.abandon(folder)
        raise PassingError(f"stage {stage.label} lost a connection: {e}; it is tried again") from e
    except OSError as e:
        store.abandon(folder)
        raise StoreError(
            f"stage {stage.label} could not read or write {e.filename or folder}: {e.strerror or e}; "
            "make room or mend the disk, then run the same command again: what is finished is kept"
        ) from e
    except BaseException:
        store.abandon(folder)
        raise
