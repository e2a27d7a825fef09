"""Seeds for parts of a run, so that resuming or batching draws what would have been drawn."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, part: int) -> int:
    """A seed below 2**56 for part `part` of what `seed` governs."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:7], "big")
