"""Download an adapter from a checkpoint on a server into a folder in PEFT's layout.

Only PEFT's two files are written, each under its own name, and no more bytes than allowed are read.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import uuid
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from safetensors import SafetensorError, safe_open

from core import jsonio
from core.engines.base import Checkpoint, DownloadedAdapter
from core.engines.tinker import checkpoints, sdk
from core.engines.tinker.checkpoints import run_of
from core.engines.tinker.service import Service, plain
from core.errors import CheckpointGone, PassingError, StageError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RECORD = "download.json"
LARGEST = 8 << 30
"""Bytes of one download at most."""
TARGETS = "target_modules"
# The shortest lifetime that servers accept for the copy that is downloaded.
_TTL_S = 3600
_BLOCK = 1 << 20
# Of one read, not of the whole download.
_TIMEOUT_S = 60.0
_MODULE = re.compile(r"(?:.*\.)?(?P<module>[^.]+)\.lora_[AB]\..*")


def download_adapter(service: Service, checkpoint: Checkpoint, folder: Path) -> DownloadedAdapter:
    """Download a checkpoint's adapter into `folder`, which must not exist yet.

    The folder appears complete or not at all, with download.json, which has the source and the checksums.
    Raises CheckpointGone, StageError, SessionLost, PassingError.
    """
    if folder.exists():
        raise StageError(f"{folder} already exists; remove it, or name another folder for the adapter")
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    part.mkdir(parents=True)
    try:
        download = _download_files if sdk.is_current() else _download_archive
        source, left_out = download(service, checkpoint, part)
        paths = [part / CONFIG, part / WEIGHTS]
        for path in paths:
            if not path.is_file():
                raise StageError(f"{source} has no {path.name}: it is not an adapter in PEFT's layout")
        completed = complete(*paths)
        digests = {path.name: jsonio.file_digest(path) for path in paths}
        size = sum(path.stat().st_size for path in paths)
        adapter = DownloadedAdapter(source, digests, size, left_out, completed)
        jsonio.write_json(part / RECORD, asdict(adapter))
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return adapter


def _download_files(service: Service, checkpoint: Checkpoint, part: Path) -> tuple[str, tuple[str, ...]]:
    """Save a copy for download, whose files have links (SDK 0.38 and later)."""
    checkpoints.require(service, checkpoint.state)
    trainer = service.open(
        lambda client: client.create_training_client_from_state(checkpoint.state.location),
        f"the adapter of step {checkpoint.step}",
    )
    doing = "saving the adapter for download"
    try:
        name = checkpoints.renewed(checkpoint.state.location)
        saved = service.result(plain(trainer.sdk.save_weights_external(name, ttl_seconds=_TTL_S)), doing)
    except Exception as error:
        raise trainer.failed(error, doing) from error
    location = str(saved.path)
    urls = service.query(lambda rest: rest.get_external_weights_urls(location), "the adapter's links").urls
    for name in (CONFIG, WEIGHTS):
        if name in urls:
            fetch(urls[name], part / name, secure=_secure(service))
    return location, tuple(sorted(set(urls) - {CONFIG, WEIGHTS}))


def _download_archive(service: Service, checkpoint: Checkpoint, part: Path) -> tuple[str, tuple[str, ...]]:
    """Download the sampler's weights as one archive (before SDK 0.38)."""
    location, doing = checkpoint.sampler.location, "the adapter's archive"
    try:
        found = service.query(lambda rest: rest.get_checkpoint_archive_url_from_tinker_path(location), doing)
    except CheckpointGone:  # some servers (SkyRL 0.3) find the archive only by its name
        checkpoints.require(service, checkpoint.sampler)
        run, name = run_of(location), location.rsplit("/", 1)[-1]
        found = service.query(lambda rest: rest.get_checkpoint_archive_url(run, name), doing)
    archive = part / "archive.tar"
    fetch(str(found.url), archive, secure=_secure(service))
    left_out = unpack(archive, part)
    archive.unlink()
    return location, left_out


def _secure(service: Service) -> bool:
    return service.connection.server.startswith("https:")


def complete(config: Path, weights: Path) -> tuple[str, ...]:
    """Add the trained modules to an adapter's configuration if its server left them out.

    Some (SkyRL 0.3) do; peft would then silently ignore the weights. The modules are those that the file has
    weights of. Returns the fields that were added. Raises StageError for files that are not in PEFT's layout.
    """
    file = config
    try:
        settings = json.loads(config.read_bytes())
        if not isinstance(settings, dict):
            raise ValueError("it is not a JSON object")
        if settings.get(TARGETS):
            return ()
        file = weights
        with safe_open(weights, framework="np") as opened:
            names = list(opened.keys())
    except (ValueError, SafetensorError) as error:
        raise StageError(f"the server's {file.name} cannot be read ({error})") from error
    found = {match["module"] for name in names if (match := _MODULE.fullmatch(name))}
    if not found:
        raise StageError(f"the server's {weights.name} has no LoRA weights: it is not an adapter")
    jsonio.write_json(config, {**settings, TARGETS: sorted(found)})
    return (TARGETS,)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def fetch(url: str, target: Path, *, secure: bool) -> None:
    """Download a link into `target`, without following redirects; with `secure` only over https.

    Raises StageError for a link that must not be followed or a file that is too large, PassingError if the
    connection fails.
    """
    scheme = urlsplit(url).scheme
    if scheme not in (("https",) if secure else ("https", "http")):
        raise StageError(f"the server's link for {target.name} is {scheme}:, which is not followed")
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as reply, target.open("xb") as file:
            while block := reply.read(_BLOCK):
                _require_size(file.tell() + len(block), target.name)
                file.write(block)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code // 100 == 3:
            raise StageError(
                f"the server's link for {target.name} redirects to another, which is not followed"
            ) from error
        raise PassingError(f"the download of {target.name} failed with status {error.code}") from error
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise PassingError(f"the download of {target.name} was interrupted: {error}") from error


def unpack(archive: Path, folder: Path) -> tuple[str, ...]:
    """Copy PEFT's two files out of a tar archive into `folder`; return the names of the others.

    Names in the archive lead nowhere. Raises StageError for other than one adapter, links, too many bytes,
    and a file that is not an archive.
    """
    try:
        with tarfile.open(archive) as tar:
            members = {PurePosixPath(member.name): member for member in tar if not member.isdir()}
            configs = [name for name in members if name.name == CONFIG]
            if len(configs) != 1:
                raise StageError(f"the server's archive has {len(configs)} files {CONFIG}, not one")
            ours = [name for name in (configs[0], configs[0].with_name(WEIGHTS)) if name in members]
            for name in ours:
                if not members[name].isreg():
                    raise StageError(f"the archive's {name} is not a plain file; nothing was unpacked")
                _require_size(members[name].size, name.name)
            for name in ours:
                source = tar.extractfile(members[name])
                assert source is not None
                with source, (folder / name.name).open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StageError(f"the server's archive cannot be unpacked: {error}") from error
    return tuple(sorted(str(name) for name in members if name not in ours))


def _require_size(size: int, what: str) -> None:
    if size > LARGEST:
        raise StageError(f"the download of {what} is larger than {LARGEST} bytes, which is not allowed")
