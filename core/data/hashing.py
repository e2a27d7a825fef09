"""Ids and orders that are the same on every machine and version: sha256, never a library's generator."""

from __future__ import annotations

import hashlib


def text_id(text: str) -> str:
    """The id of a text without an id column: 16 hex digits of sha256 over the stripped text, UTF-8."""
    return hashlib.sha256(text.strip().encode("utf-8")).hexdigest()[:16]


def rank(seed: int, example_id: str) -> bytes:
    """What rows are ordered by: sha256 of "<seed>:<id>", 32 bytes."""
    return hashlib.sha256(f"{seed}:{example_id}".encode()).digest()


def fraction(digest: bytes) -> float:
    """A number in [0, 1) from the last eight bytes of a rank, which its order hardly depends on."""
    return (int.from_bytes(digest[-8:], "big") >> 11) / 2**53
