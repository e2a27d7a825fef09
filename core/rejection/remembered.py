"""How often each reasoning was accepted, kept on disk: it grows with the accepted answers."""

from __future__ import annotations

import hashlib
import sqlite3

from core.rejection.cited import plain

_CACHE_KB = 16_000
"""Held in memory at most; with SQLite's own 2 MB a million reasonings take half as long again."""


class Remembered:
    """Counts of reasonings by a 64-bit digest, case and space aside. Close it.

    They lie in a database that SQLite keeps in a temporary file of its own and removes when it is
    closed. Raises OSError where that file cannot be written.
    """

    def __init__(self, cache_kb: int = _CACHE_KB) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(f"PRAGMA cache_size = -{cache_kb}")
        self._db.execute("CREATE TABLE accepted (digest INTEGER PRIMARY KEY, times INTEGER NOT NULL)")
        self._db.execute("BEGIN")

    def times(self, reasoning: str) -> int:
        """How often this reasoning was added."""
        found = self._do("SELECT times FROM accepted WHERE digest = ?", reasoning).fetchone()
        return int(found[0]) if found else 0

    def add(self, reasoning: str) -> None:
        """Count a reasoning once more."""
        self._do("INSERT INTO accepted VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", reasoning)

    def close(self) -> None:
        self._db.close()

    def _do(self, statement: str, reasoning: str) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, (_digest(reasoning),))
        except sqlite3.DatabaseError as e:
            raise OSError(f"the temporary database of accepted reasonings failed: {e}") from e


def _digest(reasoning: str) -> int:
    """Signed, as SQLite's integers are."""
    found = hashlib.blake2b(plain(reasoning).encode(), digest_size=8).digest()
    return int.from_bytes(found, signed=True)
