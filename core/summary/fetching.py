"""Reads many small files of a root, several at once where each is a request."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from core.errors import StoreError
from core.store.objects import Store
from core.summary.folders import PassedOver

AT_ONCE = 16


def fetch(store: Store, paths: Iterable[str]) -> tuple[dict[str, bytes], list[PassedOver]]:
    """The bytes of the files that are there, by path, and those that cannot be read.

    Raises PassingError where the place does not answer: a table that lacks rows for that reason
    would look whole.
    """
    wanted = list(paths)

    def read(path: str) -> bytes | StoreError | None:
        try:
            found = store.backend.read(path)
        except StoreError as e:
            return e
        return None if found is None else found.data

    if store.backend.folder is not None:
        found = [read(path) for path in wanted]
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(read, wanted))
    contents = {path: data for path, data in zip(wanted, found, strict=True) if isinstance(data, bytes)}
    refused = [PassedOver(p, str(e)) for p, e in zip(wanted, found, strict=True) if isinstance(e, StoreError)]
    return contents, refused
