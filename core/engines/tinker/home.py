"""Download an adapter: from a checkpoint on a server to a folder in PEFT's layout."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import asdict
from pathlib import Path

from core import jsonio
from core.engines.base import Checkpoint, DownloadedAdapter, SamplerRef, SaveLabel
from core.engines.tinker import checkpoints, sdk
from core.engines.tinker.download import Room, checked, fetch, unpack
from core.engines.tinker.layout import complete
from core.engines.tinker.paths import SaveName, name_of, run_of
from core.engines.tinker.service import Service
from core.errors import CheckpointGone, StageError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RECORD = "download.json"
LARGEST = 8 << 30
# The shortest that servers take; what was laid out for download goes by itself.
_LAID_OUT_S = 3600


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
        bring = _files if sdk.load().external else _archive
        source, left_out = bring(service, checkpoint, part, Room(limit))
        adapter = _recorded(part, source, left_out)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return adapter


def _recorded(part: Path, source: str, left_out: tuple[str, ...]) -> DownloadedAdapter:
    for name in (CONFIG, WEIGHTS):
        if not (part / name).is_file():
            raise StageError(f"{source} has no {name}: it is not an adapter in PEFT's layout")
    paths = [part / CONFIG, part / WEIGHTS]
    completed = complete(*paths)
    digests = {path.name: jsonio.file_digest(path) for path in paths}
    size = sum(path.stat().st_size for path in paths)
    adapter = DownloadedAdapter(source, digests, size, left_out, completed)
    jsonio.write_json(part / RECORD, asdict(adapter))
    return adapter


def _files(service: Service, checkpoint: Checkpoint, part: Path, room: Room) -> tuple[str, tuple[str, ...]]:
    """SDK 0.38 and later: the adapter is laid out for download, and each file has a link."""
    location = _laid_out(service, checkpoint)
    found = service.look(lambda rest: rest.get_external_weights_urls(location), "the adapter's links")
    for name in found.urls:
        checked(name)
    for name in (CONFIG, WEIGHTS):
        if name in found.urls:
            fetch(found.urls[name], part / name, room, secure=_secure(service))
    return location, tuple(sorted(set(found.urls) - {CONFIG, WEIGHTS}))


def _laid_out(service: Service, checkpoint: Checkpoint) -> str:
    checkpoints.require(service, checkpoint.state)
    was = name_of(checkpoint.state.location)
    name = SaveName.new(SaveLabel(was.key, was.writer) if was else None, checkpoint.step)
    trainer, owner = service.ask(
        lambda client: client.create_training_client_from_state(checkpoint.state.location),
        f"the adapter of step {checkpoint.step}",
    )
    what = "the adapter's laying out for download"
    try:
        saved = service.got(trainer.save_weights_external(str(name), ttl_seconds=_LAID_OUT_S), what)
    except Exception as error:
        raise service.failed(error, what, owner) from error
    return str(saved.path)


def _archive(service: Service, checkpoint: Checkpoint, part: Path, room: Room) -> tuple[str, tuple[str, ...]]:
    """Before SDK 0.38: the sampler's weights are one archive behind a link."""
    location = checkpoint.sampler.location
    packed, loose = part / "archive.tar", part / "unpacked"
    fetch(_archive_url(service, checkpoint.sampler), packed, room, secure=_secure(service))
    unpack(packed, loose, Room(room.limit))
    packed.unlink()
    left_out = _sorted_out(loose, part, location)
    shutil.rmtree(loose)
    return location, left_out


def _archive_url(service: Service, ref: SamplerRef) -> str:
    """Some servers (SkyRL 0.3) know the archive by the name alone."""
    path, what = ref.location, "the adapter's archive"
    try:
        found = service.look(lambda rest: rest.get_checkpoint_archive_url_from_tinker_path(path), what)
    except CheckpointGone:
        checkpoints.require(service, ref)
        name = path.rsplit("/", 1)[-1]
        found = service.look(lambda rest: rest.get_checkpoint_archive_url(run_of(path), name), what)
    return str(found.url)


def _sorted_out(loose: Path, part: Path, location: str) -> tuple[str, ...]:
    """Move PEFT's two files up, wherever in the archive they lie; gives the names of the others."""
    configs = list(loose.rglob(CONFIG))
    if len(configs) != 1:
        raise StageError(f"the archive of {location} has {len(configs)} files {CONFIG}, not one")
    ours = [configs[0], configs[0].with_name(WEIGHTS)]
    others = [path for path in loose.rglob("*") if path.is_file() and path not in ours]
    for path in ours:
        if path.is_file():
            path.rename(part / path.name)
    return tuple(sorted(path.relative_to(loose).as_posix() for path in others))


def _secure(service: Service) -> bool:
    return service.connection.server.startswith("https:")
