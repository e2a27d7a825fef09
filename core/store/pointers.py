"""Pointers: small JSON files that name a run's model, replaced atomically, each with its history."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from core import failpoints
from core.errors import PassingError, StoreError
from core.jsonio import indented
from core.store.leases import writer_id
from core.store.objects import Store

FOLDER = "model"
LATEST = "latest"
_HISTORY = ("saved_at", "run_name", "best_model_path")
_TRIES = 200


def publish(
    store: Store, run: str, content: Mapping[str, Any], needed: Sequence[str], *, latest: str = LATEST
) -> list[str]:
    """Swap model/<run>.json, then model/<latest>.json, after everything they name exists; return both paths.

    `needed` are files or folders under the root. Raises StoreError for the first that does not exist, and
    PassingError if other runs publish without a pause.
    """
    for relative in needed:
        if not store.backend.list(relative) and store.backend.read(relative) is None:
            raise StoreError(
                f"not published: {store.where(relative)} does not exist; run the same command again"
            )
    writer = writer_id()
    swap(store, run, content, writer)
    failpoints.hit(failpoints.RUN_POINTER_SWAPPED, run)
    swap(store, latest, content, writer)
    failpoints.hit(failpoints.LATEST_POINTER_SWAPPED, run)
    return [store.where(_path(run)), store.where(_path(latest))]


def swap(store: Store, name: str, content: Mapping[str, Any], writer: str) -> None:
    """Write a pointer with its history extended; repeat until nobody else wrote in between.

    `writer` marks the entry, so that a write whose reply was lost is found even after others have written:
    nothing is published twice.
    """
    path = _path(name)
    entry = {"writer": writer, **{key: content[key] for key in _HISTORY if key in content}}
    for attempt in range(_TRIES):
        found = store.backend.read(path)
        earlier = _content(store, path, found.data).get("history") if found is not None else None
        earlier = earlier if isinstance(earlier, list) else []
        history = [e for e in earlier if isinstance(e, dict) and "writer" in e]
        if any(before["writer"] == writer for before in history):
            return
        data = indented({**content, "history": [*history, entry]}).encode()
        if found is None:
            done = store.backend.create(path, data)
        else:
            done = store.backend.swap(path, data, found.version)
        if done:
            return
        time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))
    raise PassingError(f"{store.where(path)}: others wrote it {_TRIES} times in between; run the same again")


def retarget(store: Store, before: str, after: str) -> None:
    """Replace the run folder `before` by `after`, which has the same files, in all pointers that name it."""

    def moved(value: Any) -> Any:
        if isinstance(value, str) and f"{value}/".startswith(before):
            return (after + f"{value}/".removeprefix(before)).rstrip("/")
        return value

    for name in names(store):
        while (found := store.backend.read(_path(name))) is not None:
            content = _content(store, _path(name), found.data)
            changed = {key: moved(value) for key, value in content.items()}
            if changed == content or store.backend.swap(
                _path(name), indented(changed).encode(), found.version
            ):
                break


def read(store: Store, name: str = LATEST) -> Mapping[str, Any] | None:
    """Return the content of a pointer; None if there is none. Raises StoreError if it is damaged."""
    found = store.backend.read(_path(name))
    return None if found is None else _content(store, _path(name), found.data)


def run_dir(store: Store, name: str) -> str | None:
    """The run folder that a pointer names; None without such a pointer."""
    found = (read(store, name) or {}).get("run_dir")
    return found if isinstance(found, str) else None


def names(store: Store) -> list[str]:
    """The names of all pointers."""
    found = (f.path.removeprefix(f"{FOLDER}/") for f in store.backend.list(FOLDER))
    return [name.removesuffix(".json") for name in found if name.endswith(".json") and name[0] != "."]


def _path(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def _content(store: Store, path: str, data: bytes) -> dict[str, Any]:
    """The content; a damaged pointer is never overwritten, since its history would be lost."""
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise StoreError(
            f"{store.where(path)} is damaged: it is not a JSON object; remove it, or restore a copy of it, "
            "and run the same command again"
        )
    return content
