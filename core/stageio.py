"""What a stage's function is given: folders to read, a folder to write, and somebody who watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.progress import Progress, Silent


@dataclass(frozen=True, slots=True)
class StageIO:
    """A stage is `run(config slice, StageIO) -> summary`, readable without Prefect or a store.

    `inputs` maps an earlier stage's name to a local folder with its files; whatever is written
    into `out` becomes the stage's object, unchanged from then on.
    """

    inputs: Mapping[str, Path]
    out: Path
    progress: Progress = field(default_factory=Silent)
    key: str = ""
    """The key of the object that is made, for names on servers."""
