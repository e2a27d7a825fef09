"""Where the bundle is that somebody names: a published run, a folder, or a URL."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from core import locations
from core.bundle.contents import FILE, MERGED
from core.bundle.opening import read_contents
from core.bundle.stage import FOLDER
from core.errors import MissingInputError, ModelError, PassingError
from core.files import user_cache, whole_folder
from core.store import pointers
from core.store.objects import Store


def find(model: str, root: str = "artifacts", *, merged: bool = False) -> Path:
    """A local folder with the bundle.

    `model` is "latest" or a run's name, published under `root`, or else a folder or an fsspec URL; of a URL
    a copy is kept in the user's cache, its merged weights only with `merged`. Raises MissingInputError and
    ModelError.
    """
    found = locations.normalized(model, "--model")
    if locations.scheme(found):
        return _fetched(found.rstrip("/"), merged=merged)
    folder = Path(found)
    if folder.is_dir() and (_is_path(model) or (folder / FILE).is_file()):
        return folder.absolute()
    if _is_path(model):
        raise MissingInputError(f"there is no folder {folder.absolute()} to load a bundle from")
    return _published(Store.at(root), model)


def _is_path(model: str) -> bool:
    return "/" in model or "\\" in model


def _published(store: Store, name: str) -> Path:
    pointer = pointers.read(store, name)
    if pointer is None:
        there = ", ".join(pointers.names(store)) or "nothing is published there"
        raise MissingInputError(
            f"no model {name} is published under {store.backend.url} ({there}): name one, or a bundle's "
            "folder"
        )
    path = pointer.get("bundle_path")
    parts = path.split("/") if isinstance(path, str) else []
    if len(parts) != 5:
        raise MissingInputError(
            f"model/{name}.json names no bundle: it was published by an earlier version; run the same config "
            "again, which reuses its stages and writes one"
        )
    manifest = store.sound(parts[1], parts[2])
    if manifest is None:
        raise MissingInputError(
            f"the bundle model/{name}.json names is missing or damaged ({store.where('/'.join(parts))}): "
            "run the same config again, which makes it anew"
        )
    return store.folder(manifest) / FOLDER


def _fetched(url: str, *, merged: bool) -> Path:
    try:
        fs, path = fsspec.core.url_to_fs(url)
        written: bytes = fs.cat_file(f"{path}/{FILE}")
    except FileNotFoundError:
        raise MissingInputError(f"{url} is no bundle: it has no {FILE}") from None
    except (ConnectionError, TimeoutError) as e:
        raise PassingError(f"{url} could not be reached: {e}") from e
    except Exception as e:  # clients of stores have trees of errors of their own
        raise MissingInputError(f"{url} cannot be read: {type(e).__name__}: {e}") from e
    name = hashlib.sha256(written).hexdigest()[:16] + ("-merged" if merged else "")
    final = user_cache() / "bundles" / name
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{final}.lock"):
        if not final.is_dir():
            with whole_folder(final) as part:
                (part / FILE).write_bytes(written)
                names = read_contents(part).files
                for each in (n for n in names if merged or not n.startswith(f"{MERGED}/")):
                    _fetch(fs, f"{path}/{each}", part / each, f"{url}/{each}")
    return final


def _fetch(fs: Any, remote: str, local: Path, shown: str) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    try:
        fs.get_file(remote, str(local))
    except FileNotFoundError:
        raise ModelError(f"{shown} is missing: the bundle is not whole; copy it there anew") from None
