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
_CHANGES_WITHOUT_MEANING = ("transformers_version", "_name_or_path", "_model_name_or_path")


def cache_folder(cache: Path | None = None) -> Path:
    """Where converted models are kept: `cache`, else $UNDERSTUDY_CACHE, else ~/.cache/understudy."""
    return cache if cache is not None else user_cache()


def model_digest(folder: Path, cache: Path) -> str:
    """sha256 (hex) over a model folder's weights, tokenizer files and configuration.

    Names and contents count, the folder's place does not, nor which version wrote config.json.
    A file's own digest is remembered in `cache` by path, size and time of change. Raises ModelError.
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
    """sha256 (hex) of a file's bytes, remembered in `cache` by path, size and time of change.

    A note that is damaged is not believed, and one that cannot be written is done without.
    """
    stat = path.stat()
    named = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    note = cache / "file-digests" / hashlib.sha256(named.encode()).hexdigest()
    with suppress(OSError, ValueError):
        text = note.read_text(encoding="ascii")
        digest = text.partition(" ")[0]
        if text == _noted(named, digest):
            return digest
    digest = plain_digest(path)
    with suppress(OSError):
        replace_bytes(note, _noted(named, digest).encode("ascii"))
    return digest


def _noted(named: str, digest: str) -> str:
    return f"{digest} {hashlib.sha256(f'{named}{digest}'.encode()).hexdigest()}"
