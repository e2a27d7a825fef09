"""Paths and URLs as users write them: normalized here, once; misspelled ones are rejected.

A path is relative to the working directory. `~` and `~name` are expanded; environment variables are not,
since a config must mean the same everywhere. A backslash counts as a slash, except in existing names. Files
of installed packages, which are never imported, have URLs too; this package has default files of its own.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from core.errors import UserError

PACKAGE = "package://"
"""Begins the URL of a file in an installed package: `package://<distribution>/<path as it lists it>`."""
DEFAULT_PRICES = "configs/prices.yaml"
_BUCKETS = ("s3", "s3a", "s3n", "gs", "gcs")
_REMOTE = ("az", "abfs", "abfss", "adl", "hf", "http", "https", "ftp", "sftp", "ssh", "hdfs", "webhdfs")
SCHEMES = frozenset((*_BUCKETS, *_REMOTE, "file", "memory", "package"))
"""URL schemes that a path is taken to be a misspelling of: `s3:bucket`, `s3//bucket`."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FILE_URL = re.compile(r"(?:file|local):(?://(?:localhost(?=/))?(?=[/~])|(?=/(?!/)|~))", re.IGNORECASE)
_BROKEN_URL = re.compile(
    rf"({'|'.join(sorted(SCHEMES, key=len, reverse=True))})\s*(?:[:;.]?\s*[/\\]{{2,}}|[:;]\s*[/\\]?)(.*)"
    r"|([A-Za-z][A-Za-z0-9+.-]+)\s*:\s*/(.*)",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}?|\$\(|\{\{|<[^<>]+>|\$[A-Za-z_]\w*|%[A-Za-z_]\w*%")
_PLACEHOLDER_IN_URL = re.compile(r"\$\{[^}]*\}?|\$\(|\{\{|<[^<>]+>")
"""A URL may contain `%C3%A4` and, after its host, `$filter`."""
_WINDOWS = re.compile(r"[A-Za-z]:([\\/]|$)|\\\\")


class _Misspelled(ValueError):
    """A location that is not accepted; the message is without the setting that has it."""


def normalized(
    text: str,
    setting: str = "",
    *,
    creates: bool = False,
    schemes: Collection[str] | None = None,
    kind: str = "",
) -> str:
    """Return a local path without `file://`, `~`, `//` and a final slash, or a URL with a lower-case scheme.

    A path stays relative if it was written so. `setting` starts the error message. A name that looks like a
    mistake is accepted if it exists; with `creates`, where something may be written, only if it is also
    written from `/`, `./`, `../` or `~`. `schemes` are the URL schemes that are accepted, None for any, and
    `kind` names what is for the error message. Raises UserError: what is wrong, and how to write it.
    """
    try:
        location = _normalized(text, creates=creates)
        if (found := scheme(location)) and schemes is not None and found not in schemes:
            raise _Misspelled(f"{location}: {found}:// cannot be used here; name {kind}")
    except _Misspelled as e:
        raise UserError(f"{setting}: {e}" if setting else str(e)) from e
    return location


def scheme(location: str) -> str:
    """Return the scheme of a normalized location, empty for a local path."""
    url = _URL.match(location)
    return url.group(1) if url else ""


def absolute(text: str, setting: str = "", *, creates: bool = False) -> Path:
    """Return the absolute path of a local location; `..` is resolved as the file system does, links included.

    Raises UserError for a misspelled location and for any URL.
    """
    path = Path(normalized(text, setting, creates=creates, schemes=(), kind="a local path")).absolute()
    return path.resolve() if ".." in path.parts else path


def object_url(text: str, setting: str) -> str:
    """Return a bucket's URL without empty parts, `.`, `..` and backslashes.

    Raises UserError if it names no bucket or leads out of it.
    """
    kind, _, rest = normalized(text, setting).partition("://")
    bucket, _, inside = rest.replace("\\", "/").partition("/")
    prefix = posixpath.normpath(inside.lstrip("/"))
    if prefix.split("/")[0] == "..":
        raise UserError(f"{setting}: {text}: .. leads out of the bucket; write {kind}://bucket/prefix")
    if kind != "memory" and bucket in ("", ".", ".."):
        raise UserError(f"{setting}: {text} names no bucket; write {kind}://bucket/prefix")
    return f"{kind}://{'/'.join(part for part in (bucket, prefix) if part not in ('', '.'))}"


def packaged_path(url: str, setting: str = "the setting that names it") -> Path:
    """Return the file that `url` names, as the distribution lists it: `package://<distribution>/<path>`.

    A folder is named in the same way.

    Raises UserError with the nearest names if it does not exist. No message advises an install command: a
    misspelled name may be that of a stranger's package.
    """
    from importlib import metadata  # slower to import than all else that `--help` needs

    distribution, _, inside = url.removeprefix(PACKAGE).partition("/")
    if not distribution or not inside:
        raise UserError(
            f"{url} names no file of a package; write package://<distribution>/<path as it lists it>"
        )
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        installed = sorted({str(d.name) for d in metadata.distributions() if d.name})
        near = difflib.get_close_matches(distribution, installed, n=3, cutoff=0.6)
        hint = f" (near it: {', '.join(near)})" if near else ""
        raise UserError(
            f"{url}: the distribution {distribution} is not installed{hint}; correct {setting}, or add "
            "that distribution to your environment if you know who publishes it"
        ) from None
    listed = {file.as_posix(): file for file in files}
    folder = f"{inside.rstrip('/')}/"
    within = next((file for name, file in listed.items() if name.startswith(folder)), None)
    if inside not in listed and within is not None:
        return Path(str(within.locate())).resolve().parents[within.as_posix().count("/", len(folder))]
    if inside not in listed:
        near = difflib.get_close_matches(inside, list(listed), n=3, cutoff=0.5)
        hint = f"; near it: {', '.join(near)}" if near else f"; it lists {len(files)} other files"
        raise UserError(f"{url}: the package {distribution} lists no file {inside!r}{hint}")
    path = Path(str(listed[inside].locate()))
    if not path.is_file():
        raise UserError(f"{url}: the package lists this file, but {path} does not exist; reinstall it")
    return path.resolve()


def default_file(path: str, setting: str) -> Path:
    """Return the file that a config names: in the working directory, else among the defaults of this package.

    The defaults are `prompts/*.yaml` and `configs/prices.yaml`. If there is none, the path is returned as the
    config names it. Raises UserError, naming `setting`, for a misspelled location.
    """
    location = normalized(path, setting, schemes=(), kind="a local file")
    named, parts = Path(location), PurePosixPath(location).parts
    if named.exists() or not (location == DEFAULT_PRICES or (len(parts) == 2 and parts[0] == "prompts")):
        return named
    default = defaults_folder() / location
    return default if default.is_file() else named


def defaults_folder() -> Path:
    """Return the folder of this package's default files, that of the checkout where it is not installed."""
    from importlib import resources

    package = Path(str(resources.files("core")))
    installed = package / "defaults"
    return installed if installed.is_dir() else package.parent


def _normalized(text: str, *, creates: bool) -> str:
    if not text.strip():
        raise _Misspelled("the location is empty; write a path or a URL")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise _Misspelled(f"{text!r} has a line break or another control character; remove it")
    if text != text.strip() and not _exists(Path(text)):
        raise _Misspelled(f"{text!r} begins or ends with a space; remove it")
    if text[0] in "\"'" and text[-1] == text[0]:
        raise _Misspelled(f"{text} has quotes as part of its name; write {text.strip(text[0])}")
    if file := _FILE_URL.match(text):
        text = text[file.end() :]
    if url := _URL.match(text):
        return _url(url.group(1).lower(), text[url.end() :], text)
    problem = _misspelling(text)
    if problem is None and creates and text in ("None", "null", "undefined"):  # a program's missing value
        problem = "is not a location; write a path or a URL"
    if problem is not None and not _is_literal(text, creates=creates):
        existing = f"; for the existing file or folder of this name write ./{text}"
        raise _Misspelled(f"{text!r} {problem}{existing if creates and _exists(Path(text)) else ''}")
    path = _expanded(text)
    if "\\" in text and not _exists(path):
        path = _expanded(text.replace("\\", "/"))
    return re.sub("^//+", "/", str(path))


def _misspelling(text: str) -> str | None:
    """Return why a path looks like a mistake, and how to write what was probably meant."""
    if broken := _BROKEN_URL.match(text):
        kind = (broken.group(1) or broken.group(3)).lower()
        rest = (broken.group(2) or broken.group(4) or "").replace("\\", "/").strip("/ ") or "..."
        meant = f"/{rest}" if kind == "file" else f"{kind}://{rest}"
        return f"is neither a path nor a URL; did you mean {meant}?"
    if text.startswith(("://", ":/")):
        return "is a URL without its scheme; write s3://bucket/prefix, or a path"
    if found := _PLACEHOLDER.search(text):
        name = found.group(0)
        return f"has {name}, which is not expanded; write the path itself, or ~ for your home folder"
    if _WINDOWS.match(text) and os.name != "nt":
        return "is a path of Windows; write the path on this machine"
    return None


def _is_literal(text: str, *, creates: bool) -> bool:
    """Return whether a name that looks like a mistake is meant literally.

    Either it exists, which is not enough if something would be created, or it is written from `/`, `./`,
    `../` or `~` and only its last part is new, which must not look like a mistake itself.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        return False
    if _exists(path) and not creates:
        return True
    known = _exists(path) or (_exists(path.parent) and _misspelling(path.name) is None)
    return known and text.startswith(("/", "./", "../", "~"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, for instance
        return False


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as e:
        raise _Misspelled(f"{text}: that user has no home folder; write the folder's path") from e


def _url(kind: str, rest: str, text: str) -> str:
    if kind in ("file", "local"):
        raise _Misspelled(f"{text} names a host; write file:///absolute/path, or the path without {kind}://")
    if found := (_PLACEHOLDER if kind in _BUCKETS else _PLACEHOLDER_IN_URL).search(rest):
        raise _Misspelled(f"{text} has {found.group(0)}, which is not expanded; write the URL itself")
    if kind in _BUCKETS and rest.startswith(("/", "\\")):
        raise _Misspelled(f"{text} names no bucket; did you mean {kind}://{rest.strip('/')}?")
    if kind in SCHEMES - {"memory"} and not rest.strip("/\\"):
        raise _Misspelled(f"{text} names nothing after {kind}://; write the whole URL")
    return f"{kind}://{rest}"
