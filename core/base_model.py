"""Find the base model that a config names, as a folder of safetensors with a tokenizer.

A model is named by a folder, a .gguf file, which is converted once into the user's cache, a hub id, or
`package://<distribution>/<path>` for a folder or file inside an installed package. A file that packages hold
in pieces is named with a range of numbers and its sha256, `package://x-part{1..6}/data/{1..6}.bin#sha256=<hex>`,
and is joined once into the cache.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from core import jsonio, locations
from core.config import MODEL
from core.durable import replace_bytes, user_cache, whole_folder
from core.errors import ModelError, UserError

log = logging.getLogger(__name__)

# In this order; the hub's own client reads only the first two.
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
_TOKENIZER_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
_DIGESTED_FILES = (
    *("*.safetensors", "*.bin", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab*", "merges.txt", "chat_template*"),
)
# Raise when the same .gguf would be converted to something else.
_CONVERSION = 1
_CONVERTED = "converted.json"
"""The sha256 of each file of a converted or joined model, by name."""
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_PIECES = 1000
_BLOCK, _BLOCKS = 1 << 16, 16
"""Bytes that identify a file before its digest is looked up: one megabyte of each."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A base model that was found: a folder with safetensors, tokenizer and config.json."""

    folder: Path
    digest: str
    """sha256 over weights, tokenizer files and configuration."""
    spec: str
    """As the config names it; this goes into adapters, the folder does not."""


def resolve_model(
    spec: str, *, what: str = "base model", setting: str = "student.model", cache: Path | None = None
) -> ModelSource:
    """Find the model that `spec` names; `what` it is and the `setting` that names it are for messages.

    Converted models are kept in `cache`, by default in the user's. Raises ModelError.
    """
    kept = (cache or user_cache()).absolute()
    folder = _find(spec, what, setting, ["*.safetensors", *_TOKENIZER_FILES], kept)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{what} folder {folder} has no config.json; name a folder that save_pretrained wrote"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ModelError(f"{what} folder {folder} has no *.safetensors; download the model's weights into it")
    # Names and contents count; the folder's location and the writer of config.json do not.
    whole = hashlib.sha256()
    paths = {path for pattern in _DIGESTED_FILES for path in folder.glob(pattern) if path.is_file()}
    for path in sorted(paths, key=lambda path: path.name):
        whole.update(f"{path.name}\0{file_digest(path, kept)}\0".encode())
    try:
        config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{folder / 'config.json'} cannot be read ({error}); name a folder that save_pretrained wrote"
        ) from error
    for key in ("transformers_version", "_name_or_path", "_model_name_or_path"):
        config.pop(key, None)
    whole.update(json.dumps(config, sort_keys=True).encode())
    return ModelSource(folder=folder, digest=whole.hexdigest(), spec=spec)


def resolve_tokenizer(spec: str, *, cache: Path | None = None) -> Path:
    """Return the folder with the tokenizer of the model that `spec` names, without downloading weights.

    Raises ModelError.
    """
    kept = (cache or user_cache()).absolute()
    return _find(spec, "tokenizer", "student.tokenizer", [*_TOKENIZER_FILES], kept)


def _find(spec: str, what: str, setting: str, files: list[str], cache: Path) -> Path:
    """Return the folder that `spec` names; of a model on the hub, `files` are downloaded."""
    try:
        found = locations.normalized(spec, schemes=MODEL.schemes, kind=MODEL.kind)
        packaged = _packaged(found, setting, cache) if found.startswith(locations.PACKAGE) else None
    except UserError as error:
        raise ModelError(f"{what}: {error}") from error
    path = packaged or Path(found).absolute()
    # `./model` and `model/` name a folder, which a hub id never is.
    is_path = spec.startswith((".", "/", "~", "file:")) or spec.endswith((".gguf", "/"))
    if not (is_path or found.count("/") > 1 or path.exists()):
        return _download(found, files, what)
    if path.is_dir():
        return path
    if not path.exists():
        names = [entry.name for entry in path.parent.glob("*")]
        near = ", ".join(difflib.get_close_matches(path.name, names, n=3, cutoff=0.5))
        hint = f" (nearest: {near})" if near else ""
        raise ModelError(f"{what} not found: nothing is at {path}{hint}; correct {setting}")
    if path.suffix != ".gguf":
        raise ModelError(f"{what} {path} is a file but not a .gguf; name its folder instead")
    return convert_gguf(path, cache)


def _packaged(url: str, setting: str, cache: Path) -> Path:
    """Return the folder or file in installed packages that `url` names. Raises UserError."""
    named, _, fragment = url.partition("#")
    sha256 = fragment.removeprefix("sha256=").lower()
    if fragment and not (fragment.startswith("sha256=") and re.fullmatch("[0-9a-f]{64}", sha256)):
        raise UserError(f"{url}: what follows # must be sha256= and 64 hexadecimal digits")
    ranges = set(_RANGE.findall(named))
    if not ranges:
        path = locations.packaged_path(named, setting)
        if sha256 and path.is_dir():
            raise UserError(f"{url}: a folder has no sha256; name a file in it, or remove #{fragment}")
        if sha256 and (digest := file_digest(path, cache)) != sha256:
            raise UserError(
                f"{url}: the file's sha256 is {digest}; correct {setting} or reinstall the package"
            )
        return path
    if len(ranges) > 1:
        raise UserError(f"{url}: the ranges of pieces differ; write the same one at each place")
    first, last = ranges.pop()
    if not int(first) <= int(last) < int(first) + _MOST_PIECES:
        raise UserError(f"{url}: {{{first}..{last}}} must count up, to at most {_MOST_PIECES} pieces")
    if not sha256:
        raise UserError(f"{url}: add the sha256 of the joined file, `#sha256=<64 hexadecimal digits>`")
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return join_pieces([_RANGE.sub(number, named) for number in numbers], sha256, cache, setting)


def join_pieces(urls: Sequence[str], sha256: str, cache: Path, setting: str) -> Path:
    """Return the .gguf file, or the unpacked folder of the zip archive, that the files of packages make up.

    They are joined once: if two processes need the model, one joins and the other waits. Raises UserError if
    a piece is missing or the joined file has another sha256, and then leaves nothing behind.
    """

    def join(folder: Path) -> None:
        joined, whole = folder / "model.gguf", hashlib.sha256()
        with joined.open("wb") as file:
            for url in urls:
                with locations.packaged_path(url, setting).open("rb") as piece:
                    while block := piece.read(1 << 22):
                        whole.update(block)
                        file.write(block)
        if whole.hexdigest() != sha256:
            raise UserError(
                f"{urls[0]} and {len(urls) - 1} more pieces have the sha256 {whole.hexdigest()}, not "
                f"{sha256}; correct {setting} or reinstall the packages"
            )
        if zipfile.is_zipfile(joined):
            with zipfile.ZipFile(joined) as archive:
                archive.extractall(folder)
            joined.unlink()

    final = cache / "joined" / sha256[:16]
    _kept_whole(final, cache, f"joining {len(urls)} pieces of a model in {final}, once", join)
    if (final / "model.gguf").is_file():
        return final / "model.gguf"
    found = sorted(final.rglob("config.json"), key=lambda path: len(path.parts))
    return found[0].parent if found else final


def _download(spec: str, patterns: list[str], what: str) -> Path:
    import huggingface_hub

    token = next((os.environ[name] for name in HUB_TOKENS if os.environ.get(name)), None)
    try:
        # The latest revision; its digest is in every key.
        found = huggingface_hub.snapshot_download(spec, token=token, allow_patterns=patterns)  # nosec B615
        return Path(found)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{what} {spec!r} is neither a folder here ({Path(spec).absolute()}) nor could it be downloaded "
            f"from the hub ({type(error).__name__}: {reason}); name a local folder or a .gguf file, or set "
            f"HF_TOKEN if the model needs a login"
        ) from error


def file_digest(path: Path, cache: Path) -> str:
    """Return the sha256 (hex) of a file's bytes, remembered in `cache` by the file's identity.

    A damaged note is not used, and a cache that cannot be written costs only time.
    """
    identity = _identity(path)
    note = cache / "file-digests" / hashlib.sha256(identity.encode()).hexdigest()

    def line(digest: str) -> str:
        return f"{digest} {hashlib.sha256(f'{identity}{digest}'.encode()).hexdigest()}"

    with suppress(OSError, ValueError):
        text = note.read_text(encoding="ascii")
        digest = text.partition(" ")[0]
        if text == line(digest):
            return digest
    digest = jsonio.file_digest(path)
    if _identity(path) == identity:  # it was not replaced while it was read
        with suppress(OSError):
            replace_bytes(note, line(digest).encode("ascii"))
    return digest


def _identity(path: Path) -> str:
    """Return what changes with a file's content: path, inode, size, both times of change, sampled bytes.

    Copying tools restore the time of modification, but not that of the inode's change. The samples are for
    file systems without it, and for changes within one tick of their clock. 2 is the version of this format.
    """
    stat = path.stat()
    sample = hashlib.blake2b(digest_size=16)
    last = max(stat.st_size - _BLOCK, 0)
    with path.open("rb") as file:
        for i in range(_BLOCKS):
            file.seek(last * i // (_BLOCKS - 1))
            sample.update(file.read(_BLOCK))
    known = (2, path.resolve(), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return "\0".join(map(str, (*known, sample.hexdigest())))


def convert_gguf(path: Path, cache: Path) -> Path:
    """Return the folder that `path` was converted to; convert it if that was never done.

    If two processes need it, one converts and the other waits. A damaged conversion is repeated, and a killed
    one leaves nothing that is used. Raises ModelError.
    """
    final = cache / "models" / f"{file_digest(path, cache)[:16]}-v{_CONVERSION}"
    note = f"converting {path} to safetensors in {final}, once; about half a minute"
    _kept_whole(final, cache, note, lambda part: _convert(path, part))
    return final


def _kept_whole(final: Path, cache: Path, note: str, write: Callable[[Path], None]) -> None:
    """Unless the folder `final` is whole, log `note` and `write` it, in one process at a time."""
    if _is_whole(final, cache):
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{final}.lock"):
        if _is_whole(final, cache):
            return
        if final.exists():
            log.warning("%s was damaged", final)
            shutil.rmtree(final)
        log.info("%s", note)
        with whole_folder(final) as part:
            write(part)
            files = [path for path in part.rglob("*") if path.is_file()]
            digests = {path.relative_to(part).as_posix(): jsonio.file_digest(path) for path in files}
            jsonio.write_json(part / _CONVERTED, digests)


def _is_whole(folder: Path, cache: Path) -> bool:
    """Return whether a folder's files are those that were written."""
    try:
        written = jsonio.read_json(folder / _CONVERTED)
        return all(file_digest(folder / name, cache) == digest for name, digest in written.items())
    except (OSError, ValueError):
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
    # The weights were expanded on loading, but save_pretrained refuses while these are set.
    for name in ("is_quantized", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def require_torch() -> None:
    """Raise ModelError naming the extra to install if torch, peft, gguf or safetensors is missing."""
    needed = ("torch", "peft", "gguf", "safetensors")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"the local engine needs {', '.join(missing)}, which is not installed: "
            f"run `pip install 'understudy-distill[local]'`"
        )
