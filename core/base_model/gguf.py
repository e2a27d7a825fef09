"""A .gguf becomes a folder of safetensors and tokenizer, once."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from core.base_model.digest import file_digest
from core.errors import ModelError
from core.files import whole_folder
from core.jsonio import file_digest as plain_digest
from core.jsonio import read_json, write_json

log = logging.getLogger(__name__)

# Raise when the same .gguf would be converted to something else.
VERSION = 1
_FILES = "converted.json"
"""The sha256 of each file, by name."""


def convert_gguf(path: Path, cache: Path) -> Path:
    """Return the folder that `path` was converted to, converting it if this was never done.

    Two processes at once: one converts, the other waits. A killed conversion leaves nothing that
    is taken for whole, since the folder gets its name last; one that was damaged since is made
    again. Raises ModelError.
    """
    final = cache / "models" / f"{file_digest(path, cache)[:16]}-v{VERSION}"
    if _is_whole(final, cache):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{final}.lock"):
        if not _is_whole(final, cache):
            if final.exists():
                log.warning("%s was damaged", final)
                shutil.rmtree(final)
            log.info("converting %s to safetensors in %s, once; about half a minute", path, final)
            with whole_folder(final) as part:
                _convert(path, part)
                write_json(part / _FILES, {p.name: plain_digest(p) for p in part.iterdir() if p.is_file()})
    return final


def _is_whole(folder: Path, cache: Path) -> bool:
    """Whether a converted model's files are those that were written."""
    if not folder.is_dir():
        return False
    try:
        written = read_json(folder / _FILES)
    except FileNotFoundError:  # it was converted before this was noted
        return (folder / "config.json").is_file()
    except (OSError, ValueError):
        return False
    try:
        return all(file_digest(folder / name, cache) == digest for name, digest in written.items())
    except OSError:
        return False


def _convert(path: Path, folder: Path) -> None:
    require_torch()
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    try:
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)  # nosec B615  # a local folder
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)  # nosec B615  # a local folder
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read as a GGUF model ({type(error).__name__}: {error})"
        ) from error
    _forget_quantisation(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _forget_quantisation(model: Any) -> None:
    """The weights were expanded on loading, but save_pretrained refuses while these are set."""
    for name in ("is_quantized", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config._name_or_path = ""


def require_torch() -> None:
    """Raise ModelError naming the extra to install if torch, peft, gguf or safetensors is missing."""
    needed = ("torch", "peft", "gguf", "safetensors")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"the local engine needs {', '.join(missing)}, which is not installed: "
            f"run `pip install 'understudy-distill[local]'`"
        )
