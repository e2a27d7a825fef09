"""Which backend a root needs."""

from __future__ import annotations

from pathlib import Path

from core.errors import UserError
from core.store.backend import Backend
from core.store.disk import Disk


def backend_at(root: str) -> Backend:
    """The backend of a path, a file://, s3:// or memory:// URL. Raises UserError for another."""
    if root.startswith("s3://"):
        from core.store.s3 import S3

        if not root.removeprefix("s3://").partition("/")[0]:
            raise UserError(f"run.root: {root} names no bucket; write s3://bucket/prefix")
        return S3(root)
    if root.startswith("memory://"):
        from core.store.memory import Memory

        return Memory(root)
    if "://" in root and not root.startswith("file://"):
        raise UserError(
            f"run.root: {root}: only folders and s3:// keep the conditional writes that two runs at once "
            "need; name one of these (many services speak S3: set AWS_ENDPOINT_URL)"
        )
    try:
        return Disk(Path(root.removeprefix("file://")).expanduser().absolute())
    except RuntimeError as e:  # of expanduser
        raise UserError(f"run.root: {root}: there is no such user's home; write the folder's path") from e
