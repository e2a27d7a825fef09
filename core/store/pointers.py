"""Pointers: small JSON files that name a run's model, swapped at once under a lock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from core.errors import StoreError
from core.store import local


def publish(root: Path, run: str, content: Mapping[str, Any], needed: Sequence[str]) -> list[Path]:
    """Write model/<run>.json, then model/latest.json, after all that they name exists.

    `needed` are paths under the root. Raises StoreError naming the first that is not there.
    """
    for relative in needed:
        if not (root / relative).exists():
            raise StoreError(f"not published: {root / relative} does not exist; run the same command again")
    data = (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    folder = root / "model"
    with local.explained(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{run}.json", folder / "latest.json"]
    with FileLock(folder / ".lock"):
        for path in paths:
            local.replace_bytes(path, data)
    return paths


def read(root: Path, name: str = "latest") -> Mapping[str, Any] | None:
    """What a pointer holds, None where there is none."""
    path = root / "model" / f"{name}.json"
    if not path.is_file():
        return None
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
