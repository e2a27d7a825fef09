"""Files from a server's links onto this disk: nothing outside the folder, no links, no more than allowed."""

from __future__ import annotations

import shutil
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from core.errors import PassingError, StageError

_BLOCK = 1 << 20
# Of one read, not of the whole download.
_SILENCE_S = 60.0


@dataclass(slots=True)
class Room:
    """How many bytes may still come."""

    limit: int
    taken: int = 0

    def take(self, count: int, what: str) -> None:
        """Raises StageError beyond the limit."""
        self.taken += count
        if self.taken > self.limit:
            raise StageError(
                f"the download of {what} is larger than {self.limit} bytes; if that is right, allow more"
            )


def fetch(url: str, target: Path, room: Room, *, secure: bool) -> None:
    """Write what a link gives into `target`, without following any other link.

    `secure` takes https alone. Raises StageError for a link that must not be followed or a file that
    is too large, PassingError where the connection fails.
    """
    scheme = urlsplit(url).scheme
    if scheme not in (("https",) if secure else ("https", "http")):
        raise StageError(f"the server's link for {target.name} is {scheme}:, which is not followed")
    try:
        with _OPENER.open(url, timeout=_SILENCE_S) as reply, target.open("xb") as file:
            while block := reply.read(_BLOCK):
                room.take(len(block), target.name)
                file.write(block)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code // 100 == 3:
            raise StageError(
                f"the server's link for {target.name} leads on to another, which is not followed"
            ) from error
        raise PassingError(f"the download of {target.name} failed with status {error.code}") from error
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise PassingError(f"the download of {target.name} broke off: {error}") from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def unpack(archive: Path, folder: Path, room: Room) -> None:
    """Unpack a tar archive's plain files into `folder`.

    All names are looked at before anything is written. Raises StageError for a name that leads out
    of the folder, for links and devices, for too many bytes, and for what is no archive.
    """
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if not member.isdir()]
            for member in members:
                checked(member.name)
                if not member.isreg():
                    raise StageError(f"the archive's {member.name!r} is no plain file; nothing was unpacked")
                room.take(member.size, member.name)
            for member in members:
                _write(tar.extractfile(member), folder / checked(member.name))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StageError(f"the server's archive cannot be unpacked: {error}") from error


def _write(source: IO[bytes] | None, target: Path) -> None:
    assert source is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file)


def checked(name: str) -> PurePosixPath:
    """The name of a file inside a folder. Raises StageError for one that leads elsewhere."""
    path = PurePosixPath(name)
    odd = "\\" in name or ":" in name or "\0" in name
    if odd or path.is_absolute() or not path.parts or ".." in path.parts:
        raise StageError(
            f"the server names a file {name!r}, which leads out of its folder; nothing was taken"
        )
    return path
