"""Small things about files that the engine's other parts share: digests, folders made whole."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from core.errors import ModelError
from core.files import replace_bytes, user_cache
from core.jsonio import file_digest as plain_digest

_WEIGHTS_AND_TOKENIZER = (
    "*.safetensors",
    "*.bin",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
)
_BLOCK, _BLOCKS = 1 << 16, 16
"""Bytes that tell files apart before their digests are looked up: one megabyte of each."""
_CHANGES_WITHOUT_MEANING = ("transformers_version", "_name_or_path", "_model_name_or_path")


def cache_folder(cache: Path | None = None) -> Path:
    """Where converted models are kept: `cache`, else $UNDERSTUDY_CACHE, else ~/.cache/understudy."""
    return cache if cache is not None else user_cache()


def model_digest(folder: Path, cache: Path) -> str:
    """sha256 (hex) over a model folder's weights, tokenizer files and configuration.

    Names and contents count, the folder's place does not, nor which version wrote config.json.
    A file's own digest is remembered in `cache`. Raises ModelError.
    """
    whole = hashlib.sha256()
    for path in _model_files(folder):
        whole.update(f"{path.name}\0{file_digest(path, cache)}\0".encode())
    try:
        config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{folder / 'config.json'} cannot be read ({error}); name a folder that save_pretrained wrote"
        ) from error
    for key in _CHANGES_WITHOUT_MEANING:
        config.pop(key, None)
    whole.update(json.dumps(config, sort_keys=True).encode())
    return whole.hexdigest()


def _model_files(folder: Path) -> list[Path]:
    found = {path for pattern in _WEIGHTS_AND_TOKENIZER for path in folder.glob(pattern) if path.is_file()}
    return sorted(found, key=lambda path: path.name)


def file_digest(path: Path, cache: Path) -> str:
    """sha256 (hex) of a file's bytes, remembered in `cache` by the file's identity (see `_identity`).

    A note that is damaged is not believed, and one that cannot be written is done without.
    """
    named = _identity(path)
    note = cache / "file-digests" / hashlib.sha256(named.encode()).hexdigest()
    with suppress(OSError, ValueError):
        text = note.read_text(encoding="ascii")
        digest = text.partition(" ")[0]
        if text == _noted(named, digest):
            return digest
    digest = plain_digest(path)
    if _identity(path) == named:  # it was not replaced while it was read
        with suppress(OSError):
            replace_bytes(note, _noted(named, digest).encode("ascii"))
    return digest


def _identity(path: Path) -> str:
    """What changes with a file's content: place, inode, size, both times of change, and sampled bytes.

    Copying tools restore the time of modification, but no program sets that of the inode's change, and
    a file that is moved here has its own inode. The samples (the whole of a small file) are for file
    systems that have neither, and for changes within one tick of their clock. The number at the start
    is the format's: version 0.1 remembered digests by place, size and time of modification alone.
    """
    stat = path.stat()
    known = (2, path.resolve(), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return "\0".join(map(str, (*known, _sample(path, stat.st_size))))


def _sample(path: Path, size: int) -> str:
    """blake2b (hex) over blocks from the file's beginning to its end, evenly spaced."""
    digest = hashlib.blake2b(digest_size=16)
    last = max(size - _BLOCK, 0)
    with path.open("rb") as file:
        for i in range(_BLOCKS):
            file.seek(last * i // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _noted(named: str, digest: str) -> str:
    return f"{digest} {hashlib.sha256(f'{named}{digest}'.encode()).hexdigest()}"
