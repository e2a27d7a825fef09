"""Find a base model by what the config calls it, wherever it lies.

A model is named by a folder, a .gguf file, `package://<distribution>/<path>` for a file inside
an installed package, or a hub id. Every kind ends as a folder of safetensors and tokenizer.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core import locations, packages
from core.base_model.digest import cache_folder, model_digest
from core.base_model.gguf import convert_gguf
from core.errors import ModelError, UserError

_MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
# In this order; the hub's own client reads only the first two.
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A base model that was found: a folder with safetensors, tokenizer and config.json."""

    folder: Path
    digest: str
    """sha256 over weights, tokenizer files and configuration."""
    spec: str
    """As the config names it; this goes into adapters, the folder does not."""


def resolve_model(spec: str, *, cache: Path | None = None) -> ModelSource:
    """Find the base model `spec` names; convert a GGUF once, into the user's cache folder.

    Raises ModelError with what was looked for, where, and the remedy.
    """
    kept = cache_folder(cache).absolute()
    folder = _folder(spec, kept)
    return ModelSource(folder=folder, digest=model_digest(folder, kept), spec=spec)


def resolve_tokenizer(spec: str, *, cache: Path | None = None) -> Path:
    """The folder with the tokenizer that `spec` names, as a model is named; no weights are fetched.

    Raises ModelError.
    """
    spec, path = _spelled(spec, "student.tokenizer")
    if path.is_dir():
        return path.absolute()
    if spec.startswith(packages.SCHEME) or path.exists() or _looks_like_path(spec):
        return _folder(spec, cache_folder(cache).absolute())
    return _from_hub(spec, ("*.json", "*.jinja", "*.txt", "*.model"), "student.tokenizer")


def _folder(spec: str, cache: Path) -> Path:
    spec, path = _spelled(spec, "base model")
    if spec.startswith(packages.SCHEME):
        return _from_file(_packaged(spec), cache)
    if path.exists() or _looks_like_path(spec):
        return _from_file(path.absolute(), cache)
    return _checked(_from_hub(spec))


def _spelled(spec: str, setting: str) -> tuple[str, Path]:
    """The name without `file://` and `~`, and as a path. Raises ModelError for a misspelled one."""
    try:
        found = locations.normalized(spec, setting)
        locations.require(found, setting, ("package",), "a folder, a .gguf file, a hub id or package://")
    except UserError as error:
        raise ModelError(str(error)) from None
    # `./model` and `model/` name a folder, which a hub id never is.
    return (
        found if locations.scheme(found) or not _is_explicit(spec) else str(Path(found).absolute())
    ), Path(found)


def _is_explicit(spec: str) -> bool:
    return spec.startswith((".", "/", "~", "file:")) or spec.endswith("/")


def _looks_like_path(spec: str) -> bool:
    return spec.startswith((".", "/", "~")) or spec.endswith(".gguf") or spec.count("/") > 1


def _from_file(path: Path, cache: Path) -> Path:
    if path.is_dir():
        return _checked(path)
    if not path.exists():
        near = _nearest(path.name, [entry.name for entry in path.parent.glob("*")])
        raise ModelError(f"base model not found: nothing is at {path}{near}; correct student.model")
    if path.suffix != ".gguf":
        raise ModelError(f"base model {path} is a file but not a .gguf; name its folder instead")
    return convert_gguf(path, cache)


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"base model folder {folder} has no config.json; name a folder that save_pretrained wrote"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ModelError(
            f"base model folder {folder} has no *.safetensors; fetch the model's weights into it"
        )
    return folder


def _packaged(spec: str) -> Path:
    try:
        return packages.find(spec, "student.model")
    except UserError as error:
        raise ModelError(f"base model {error}") from error


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f" (nearest: {', '.join(near)})" if near else ""


def _from_hub(spec: str, wanted: Sequence[str] = _MODEL_FILES, what: str = "base model") -> Path:
    import huggingface_hub

    token = next((os.environ[name] for name in HUB_TOKENS if os.environ.get(name)), None)
    try:
        # The newest revision is asked for; what came is in every key by its digest.
        found = huggingface_hub.snapshot_download(  # nosec B615
            spec, token=token, allow_patterns=list(wanted)
        )
        return Path(found)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{what} {spec!r} is neither a folder here ({Path(spec).absolute()}) nor could it be "
            f"fetched from the hub ({type(error).__name__}: {reason}); name a local folder or a .gguf file, "
            f"or set HF_TOKEN where the model needs a login"
        ) from error
