"""A .gguf becomes a folder of safetensors and tokenizer, once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from filelock import FileLock

from core.engines.local.files import file_digest, whole_folder
from core.engines.local.need import need_torch
from core.errors import ModelError

log = logging.getLogger(__name__)

# Raise when the same .gguf would be converted to something else.
VERSION = 1


def convert_gguf(path: Path, cache: Path) -> Path:
    """Return the folder that `path` was converted to, converting it if this was never done.

    Two processes at once: one converts, the other waits. A killed conversion leaves nothing that
    is taken for whole, since the folder gets its name last. Raises ModelError.
    """
    final = cache / "models" / f"{file_digest(path, cache)[:16]}-v{VERSION}"
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{final}.lock"):
        if not final.is_dir():
            log.info("converting %s to safetensors in %s, once; about half a minute", path, final)
            with whole_folder(final) as part:
                _convert(path, part)
    return final


def _convert(path: Path, folder: Path) -> None:
    need_torch()
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    try:
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
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
