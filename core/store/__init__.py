"""The artifact store: immutable objects, run folders and pointers under one root, on a disk or on S3."""

from core.store.backend import Backend, Disk, FoundFile, explained
from core.store.objects import FileEntry, Manifest, Store
from core.store.run_view import ReadOnlyRun, RunState, RunView, StageRecord, run_names

__all__ = [
    "Backend",
    "Disk",
    "FileEntry",
    "FoundFile",
    "Manifest",
    "ReadOnlyRun",
    "RunState",
    "RunView",
    "StageRecord",
    "Store",
    "explained",
    "run_names",
]
