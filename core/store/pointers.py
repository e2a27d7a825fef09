"""Pointers: small JSON files that name a run's model, swapped at once, each with its history."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from core import failpoints
from core.errors import PassingError, StoreError
from core.store.leases import writer_id
from core.store.objects import Store

FOLDER = "model"
LATEST = "latest"
_HISTORY = ("saved_at", "run_name", "best_model_path")
_TRIES = 200


def publish(
    store: Store, run: str, content: Mapping[str, Any], needed: Sequence[str], *, latest: str = LATEST
) -> list[str]:
    """Swap model/<run>.json, then model/<latest>.json, after all that they name exists; return both paths.

    `needed` are files or folders under the root. Raises StoreError naming the first that is not
    there, and PassingError where others publish without a pause.
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
    """Read, add to the history, write if nobody else did meanwhile; until it is in.

    `writer` marks the entry, so that a write whose reply was lost is found again even after others
    have written: nothing is published twice.
    """
    path = _path(name)
    entry = {"writer": writer, **{key: content[key] for key in _HISTORY if key in content}}
    for attempt in range(_TRIES):
        found = store.backend.read(path)
        history = _history(_content(store, path, found.data)) if found is not None else []
        if any(before["writer"] == writer for before in history):
            return
        data = _bytes({**content, "history": [*history, entry]})
        if found is None:
            done = store.backend.create(path, data)
        else:
            done = store.backend.swap(path, data, found.version)
        if done:
            return
        time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))
    raise PassingError(f"{store.where(path)}: others wrote it {_TRIES} times in between; run the same again")


def retarget(store: Store, before: str, after: str) -> None:
    """Let the pointers that name a run's folder `before` name `after`, where its files now are as well."""
    for name in names(store):
        while (found := store.backend.read(_path(name))) is not None:
            content = _content(store, _path(name), found.data)
            moved = {key: _moved(value, before, after) for key, value in content.items()}
            if moved == content or store.backend.swap(_path(name), _bytes(moved), found.version):
                break


def _moved(value: Any, before: str, after: str) -> Any:
    if isinstance(value, str) and f"{value}/".startswith(before):
        return (after + f"{value}/".removeprefix(before)).rstrip("/")
    return value


def read(store: Store, name: str = LATEST) -> Mapping[str, Any] | None:
    """What a pointer holds, None where there is none. Raises StoreError where it is damaged."""
    found = store.backend.read(_path(name))
    return None if found is None else _content(store, _path(name), found.data)


def run_dir(store: Store, name: str) -> str | None:
    """The run folder that a pointer names; None if there is no such pointer."""
    found = (read(store, name) or {}).get("run_dir")
    return found if isinstance(found, str) else None


def names(store: Store) -> list[str]:
    """The pointers there are."""
    found = (f.path.removeprefix(f"{FOLDER}/") for f in store.backend.list(FOLDER))
    return [name.removesuffix(".json") for name in found if name.endswith(".json") and name[0] != "."]


def _path(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def _content(store: Store, path: str, data: bytes) -> dict[str, Any]:
    """Of a damaged one the history is lost, which is the user's to decide: it is never written over."""
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise StoreError(
            f"{store.where(path)} is damaged: it holds no JSON object; remove it, or put back a copy of it, "
            "and run the same command again"
        )
    return content


def _history(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = content.get("history")
    found = found if isinstance(found, list) else []
    return [entry for entry in found if isinstance(entry, dict) and "writer" in entry]


def _bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
