"""Which backend a root needs."""

from __future__ import annotations

from core import locations
from core.errors import UserError
from core.store.backend import Backend
from core.store.disk import Disk


def backend_at(root: str) -> Backend:
    """The backend of a path, a file://, s3:// or memory:// URL, however it is spelled.

    Raises UserError for another URL and for a spelling that is neither a path nor a URL.
    """
    setting = "run.root"
    scheme = locations.scheme(locations.normalized(root, setting, creates=True))
    if scheme == "s3":
        from core.store.s3 import S3

        return S3(locations.object_url(root, setting))
    if scheme == "memory":
        from core.store.memory import Memory

        return Memory(locations.object_url(root, setting))
    if scheme:
        raise UserError(
            f"{setting}: {root}: only folders and s3:// keep the conditional writes that two runs at once "
            "need; name one of these (many services speak S3: set AWS_ENDPOINT_URL)"
        )
    return Disk(locations.absolute(root, setting, creates=True))
