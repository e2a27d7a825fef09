"""Download an adapter from a checkpoint on a server into a folder in PEFT's layout.

Only the adapter's files are written, no link leads elsewhere, and no more bytes than allowed are read.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from core import jsonio
from core.engines.base import Checkpoint, DownloadedAdapter, SaveLabel
from core.engines.tinker import checkpoints, sdk
from core.engines.tinker.checkpoints import SaveName, run_of
from core.engines.tinker.service import Service
from core.errors import CheckpointGone, PassingError, StageError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RECORD = "download.json"
LARGEST = 8 << 30
TARGETS = "target_modules"
# The shortest lifetime that servers accept for the copy that is downloaded.
_TTL_S = 3600
_BLOCK = 1 << 20
# Of one read, not of the whole download.
_TIMEOUT_S = 60.0
_MODULE = re.compile(r"(?:.*\.)?(?P<module>[^.]+)\.lora_[AB]\..*")


@dataclass(slots=True)
class ByteLimit:
    """Counts bytes that were read; `add` raises StageError beyond the limit."""

    limit: int
    used: int = 0

    def add(self, count: int, what: str) -> None:
        self.used += count
        if self.used > self.limit:
            raise StageError(
                f"the download of {what} is larger than {self.limit} bytes; if that is right, allow more"
            )


def download_adapter(
    service: Service, checkpoint: Checkpoint, folder: Path, *, limit: int = LARGEST
) -> DownloadedAdapter:
    """Download a checkpoint's adapter of at most `limit` bytes into `folder`, which must not exist yet.

    The folder appears complete or not at all, with download.json, which has the source and the checksums.
    Raises CheckpointGone, StageError, SessionLost, PassingError.
    """
    if folder.exists():
        raise StageError(f"{folder} already exists; remove it, or name another folder for the adapter")
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    part.mkdir(parents=True)
    try:
        download = _download_files if sdk.load().external else _download_archive
        source, left_out = download(service, checkpoint, part, ByteLimit(limit))
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


def _download_files(
    service: Service, checkpoint: Checkpoint, part: Path, limit: ByteLimit
) -> tuple[str, tuple[str, ...]]:
    """Save a copy for download, whose files have links (SDK 0.38 and later)."""
    checkpoints.require(service, checkpoint.state)
    saved_as = SaveName.read(checkpoint.state.location)
    label = SaveLabel(saved_as.key, saved_as.writer) if saved_as else None
    trainer = service.open(
        lambda client: client.create_training_client_from_state(checkpoint.state.location),
        f"the adapter of step {checkpoint.step}",
    )
    doing = "saving the adapter for download"
    try:
        name = str(SaveName.new(label, checkpoint.step))
        saved = service.result(trainer.sdk.save_weights_external(name, ttl_seconds=_TTL_S), doing)
    except Exception as error:
        raise trainer.failed(error, doing) from error
    location = str(saved.path)
    urls = service.query(lambda rest: rest.get_external_weights_urls(location), "the adapter's links").urls
    for name in urls:
        checked(name)
    for name in (CONFIG, WEIGHTS):
        if name in urls:
            fetch(urls[name], part / name, limit, secure=_secure(service))
    return location, tuple(sorted(set(urls) - {CONFIG, WEIGHTS}))


def _download_archive(
    service: Service, checkpoint: Checkpoint, part: Path, limit: ByteLimit
) -> tuple[str, tuple[str, ...]]:
    """Download the sampler's weights as one archive (before SDK 0.38); move PEFT's two files out of it."""
    location, doing = checkpoint.sampler.location, "the adapter's archive"
    try:
        found = service.query(lambda rest: rest.get_checkpoint_archive_url_from_tinker_path(location), doing)
    except CheckpointGone:  # some servers (SkyRL 0.3) find the archive only by its name
        checkpoints.require(service, checkpoint.sampler)
        run, name = run_of(location), location.rsplit("/", 1)[-1]
        found = service.query(lambda rest: rest.get_checkpoint_archive_url(run, name), doing)
    archive, unpacked = part / "archive.tar", part / "unpacked"
    fetch(str(found.url), archive, limit, secure=_secure(service))
    unpack(archive, unpacked, ByteLimit(limit.limit))
    archive.unlink()
    configs = list(unpacked.rglob(CONFIG))
    if len(configs) != 1:
        raise StageError(f"the archive of {location} has {len(configs)} files {CONFIG}, not one")
    ours = [configs[0], configs[0].with_name(WEIGHTS)]
    others = [path for path in unpacked.rglob("*") if path.is_file() and path not in ours]
    left_out = tuple(sorted(path.relative_to(unpacked).as_posix() for path in others))
    for path in ours:
        if path.is_file():
            path.rename(part / path.name)
    shutil.rmtree(unpacked)
    return location, left_out


def _secure(service: Service) -> bool:
    return service.connection.server.startswith("https:")


def complete(config: Path, weights: Path) -> tuple[str, ...]:
    """Add the trained modules to an adapter's configuration if its server left them out.

    Some (SkyRL 0.3) do; peft would then silently ignore the weights. The modules are those that the file has
    weights of. Returns the fields that were added. Raises StageError for files that are not in PEFT's layout.
    """
    settings = _json_object(config.read_bytes(), config.name)
    if settings.get(TARGETS):
        return ()
    # A safetensors file begins with eight bytes of length, then JSON of that length with the names.
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        names = _json_object(file.read(min(length, weights.stat().st_size)), weights.name)
    found = {match["module"] for name in names if (match := _MODULE.fullmatch(name))}
    if not found:
        raise StageError(f"the server's {weights.name} has no LoRA weights: it is not an adapter")
    jsonio.write_json(config, {**settings, TARGETS: sorted(found)})
    return (TARGETS,)


def _json_object(text: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it does not begin with a JSON object")
    except ValueError as error:
        raise StageError(f"the server's {name} cannot be read ({error})") from error
    return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def fetch(url: str, target: Path, limit: ByteLimit, *, secure: bool) -> None:
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
                limit.add(len(block), target.name)
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


def unpack(archive: Path, folder: Path, limit: ByteLimit) -> None:
    """Unpack a tar archive's plain files into `folder`, after all names and sizes are checked.

    Raises StageError for a name outside the folder, for links and devices, for too many bytes, and for a file
    that is not an archive.
    """
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if not member.isdir()]
            for member in members:
                checked(member.name)
                if not member.isreg():
                    raise StageError(
                        f"the archive's {member.name!r} is not a plain file; nothing was unpacked"
                    )
                limit.add(member.size, member.name)
            for member in members:
                target, source = folder / checked(member.name), tar.extractfile(member)
                assert source is not None
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StageError(f"the server's archive cannot be unpacked: {error}") from error


def checked(name: str) -> PurePosixPath:
    """Return the name of a file inside a folder. Raises StageError for one that leads out of it."""
    path = PurePosixPath(name)
    odd = "\\" in name or ":" in name or "\0" in name
    if odd or path.is_absolute() or not path.parts or ".." in path.parts:
        raise StageError(
            f"the server names a file {name!r}, which leads out of its folder; nothing was downloaded"
        )
    return path
