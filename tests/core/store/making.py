"""Small objects for the store's tests."""

from __future__ import annotations

from core.store import Manifest, Store


def made(store: Store, key: str = "k1", text: str = "hello\n", *, replace: bool = False) -> Manifest:
    """Commit an object of two files, one of them in a folder."""
    folder = store.begin("split", key)
    (folder / "train.jsonl").write_text(text)
    (folder / "sub").mkdir()
    (folder / "sub/b.txt").write_text("b")
    return store.commit("split", key, folder, {"version": 1}, {"n": 1}, replace=replace)


def paths(store: Store, prefix: str = "objects") -> list[str]:
    """The paths below a folder of the root."""
    return [f.path for f in store.backend.list(prefix)]
