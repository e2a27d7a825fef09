"""Where Prefect keeps its result records: under the run's root, so that any machine finds them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from prefect.filesystems import RemoteFileSystem

from core.store.objects import Store


def result_storage(store: Store) -> Path | RemoteFileSystem:
    """<root>/cache as a folder, or as a block that holds the URL and no credentials."""
    if store.backend.folder is not None:
        return store.backend.folder / "cache"
    return _block(store.where("cache"))


@lru_cache
def _block(url: str) -> RemoteFileSystem:
    """Prefect takes a block only once it is saved, and the temporary server knows none."""
    block = RemoteFileSystem(basepath=url)
    block.save(f"understudy-{hashlib.sha256(url.encode()).hexdigest()[:16]}", overwrite=True)
    return block
