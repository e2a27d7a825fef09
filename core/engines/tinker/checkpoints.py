"""Checkpoints on a server: their names, records of saves, listing, removing, keeping, and adapter downloads.

Of a downloaded adapter only PEFT's two files are written, each under its own name, and no more bytes than
allowed are read.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tarfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from operator import methodcaller
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from safetensors import SafetensorError, safe_open

from core import jsonio
from core.engines import (
    Checkpoint,
    EngineIdentity,
    LoraSpec,
    RemoteCheckpoint,
    SamplerRef,
    SaveLabel,
    StateRef,
)
from core.engines.interface import DownloadedAdapter, RemoteKind
from core.engines.tinker.service import Service, has_current_sdk, plain
from core.errors import CheckpointGone, ModelError, PassingError, StageError
from core.jsonio import InvalidFile, Record

FILE = "tinker.json"
"""The record of a save, in the folder that the session was given."""
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
_PAGE = 100
_KINDS: dict[str, RemoteKind] = {"training": "state", "sampler": "sampler", "external": "adapter"}
# Every server accepts letters, digits, - and _.
_NAME = re.compile(r"understudy-[A-Za-z0-9]+-step([0-9]+)-[A-Za-z0-9]+-[0-9a-f]+")


def save_name(label: SaveLabel | None, step: int) -> str:
    """Return a new name for one save, shared by its state and its sampler's weights.

    Key, step and writer keep two saves from colliding; the random end differs between attempts, so that a
    save whose answer was lost does not block a later one.
    """
    parts = (label.key, label.writer) if label else ("", "")
    key, writer = (re.sub(r"[^A-Za-z0-9]", "", part)[:16] or "none" for part in parts)
    return f"understudy-{key}-step{step:06d}-{writer}-{secrets.token_hex(4)}"


def renewed(location: str) -> str:
    """Return a new name for another save of what is at a path."""
    if saved_step(location) is None:  # the server changed the name
        return save_name(None, 0)
    return f"{location.rsplit('/', 1)[-1].rpartition('-')[0]}-{secrets.token_hex(4)}"


def saved_step(location: str) -> int | None:
    """Return the step in the name at the end of a path; None if `save_name` did not create it."""
    found = _NAME.fullmatch(location.rsplit("/", 1)[-1])
    return None if found is None else int(found[1])


def require_path(ref: StateRef | SamplerRef) -> str:
    """Return the path of a state, or of a sampler's weights. Raises ModelError for any other location."""
    sampler = isinstance(ref, SamplerRef)
    kind, what = ("sampler_weights", "sampler's weights") if sampler else ("weights", "training state")
    if not re.fullmatch(rf"tinker://[^/]+/{kind}/[^/]+", ref.location):
        raise ModelError(
            f"{ref.location} is not the path of a {what}; such a path reads tinker://<run>/{kind}/<name>"
        )
    return ref.location


def run_of(location: str) -> str:
    """Return the training run on the server that a path belongs to."""
    return location.removeprefix("tinker://").split("/")[0]


def sampler_ref(path: str) -> SamplerRef:
    """Return the reference to a path from a server; some (SkyRL 0.3) omit the path's kind."""
    run, _, name = path.removeprefix("tinker://").partition("/")
    return SamplerRef(path if "/" in name else f"tinker://{run}/sampler_weights/{name}")


def checkpoint_at(identity: EngineIdentity, state: StateRef) -> Checkpoint | None:
    """Return the checkpoint that a session saved at a state; None for states of other programs."""
    step = saved_step(state.location)
    if step is None:
        return None
    sampler = SamplerRef(state.location.replace("/weights/", "/sampler_weights/"))
    return Checkpoint(identity, step, digest_of(str(identity.server), state), state, sampler)


def digest_of(server: str, state: StateRef) -> str:
    """Return the digest of weights that stay on a server: of the only place where they are."""
    return jsonio.digest([server, state.location])


class Saved(Record):
    """A save on a server, as tinker.json records it; `run` is the training run there."""

    server: str
    model: str
    run: str
    name: str
    step: int
    digest: str
    state: str
    sampler: str
    ttl_seconds: int | None
    """Time to live that was requested; None: forever."""
    lora: LoraSpec
    sdk: str

    @classmethod
    def of(cls, folder: Path) -> Saved:
        """Read the record in a folder. Raises ModelError if it is missing or cannot be read."""
        path = folder / FILE
        try:
            return cls.read(path)
        except FileNotFoundError:
            raise ModelError(
                f"no checkpoint of a Tinker server in {folder}: {FILE} is missing; name a folder that a "
                f"run saved"
            ) from None
        except (InvalidFile, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({error}); restore it or train again") from error

    def refs(self) -> tuple[StateRef, SamplerRef]:
        """Return both paths. Raises ModelError for a path of another kind."""
        refs = StateRef(self.state), SamplerRef(self.sampler)
        for ref in refs:
            require_path(ref)
        return refs


def listed(service: Service) -> list[RemoteCheckpoint]:
    """Return all checkpoints of the key's owner, the latest first."""

    def every(request: str, field: str) -> list[Any]:
        rows = list[Any]()
        while True:
            page = service.query(methodcaller(request, _PAGE, len(rows)), "the list of checkpoints")
            rows += getattr(page, field)
            if not getattr(page, field) or page.cursor is None or len(rows) >= page.cursor.total_count:
                return rows

    try:
        own = every("list_user_checkpoints", "checkpoints")
    except CheckpointGone:  # some servers (SkyRL 0.3) list checkpoints only by run
        runs = every("list_training_runs", "training_runs")
        own = [each for run in runs for each in _of_run(service, run.training_run_id)]
    return sorted(map(_listed, own), key=lambda each: (each.created, each.location), reverse=True)


def find(service: Service, ref: StateRef | SamplerRef) -> RemoteCheckpoint | None:
    """Return the checkpoint at a path; None if the server does not have it (any more)."""
    try:
        found = map(_listed, _of_run(service, run_of(ref.location)))
    except CheckpointGone:
        return None
    now = datetime.now(UTC)
    living = (each for each in found if each.expires is None or each.expires > now)
    return next((each for each in living if each.location == ref.location), None)


def require(service: Service, ref: StateRef | SamplerRef) -> RemoteCheckpoint:
    """Return the checkpoint at a path. Raises CheckpointGone."""
    found = find(service, ref)
    if found is None:
        raise CheckpointGone(f"{service.connection.server} no longer has {ref.location}")
    return found


def remove(service: Service, location: str) -> None:
    """Delete a checkpoint. Raises CheckpointGone, or StageError if the server does not support it."""
    _change(service, location, "removing", lambda rest: rest.delete_checkpoint_from_tinker_path(location))


def keep(service: Service, location: str) -> None:
    """Keep a checkpoint forever; raises as `remove`."""
    what = "the lifetime of"
    _change(service, location, what, lambda rest: rest.set_checkpoint_ttl_from_tinker_path(location, None))


def _change(service: Service, location: str, doing: str, call: Callable[[Any], Any]) -> None:
    try:
        service.query(call, f"{doing} {location}")
    except CheckpointGone as error:
        # A server without this request answers as one without the checkpoint.
        if not any(each.tinker_path == location for each in _of_run(service, run_of(location))):
            raise
        server = service.connection.server
        raise StageError(f"{server} cannot change {location} ({doing} it), which is unchanged") from error


def _of_run(service: Service, run: str) -> list[Any]:
    page = service.query(lambda rest: rest.list_checkpoints(run), "the run's checkpoints")
    return list(page.checkpoints)


def _listed(found: Any) -> RemoteCheckpoint:
    def aware(time: datetime) -> datetime:  # servers without a zone mean UTC
        return time if time.tzinfo else time.replace(tzinfo=UTC)

    expires = getattr(found, "expires_at", None)
    return RemoteCheckpoint(
        location=found.tinker_path,
        kind=_KINDS[found.checkpoint_type],
        step=saved_step(found.tinker_path),
        bytes=getattr(found, "size_bytes", None),
        created=aware(found.time),
        expires=None if expires is None else aware(expires),
    )


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
        download = _download_files if has_current_sdk() else _download_archive
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
    require(service, checkpoint.state)
    trainer = service.open(
        lambda client: client.create_training_client_from_state(checkpoint.state.location),
        f"the adapter of step {checkpoint.step}",
    )
    doing = "saving the adapter for download"
    try:
        name = renewed(checkpoint.state.location)
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
        require(service, checkpoint.sampler)
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
