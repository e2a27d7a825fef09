"""Files inside installed packages, which are never imported, and the default files of this one."""

from __future__ import annotations

import difflib
from importlib import metadata, resources
from pathlib import Path, PurePosixPath

from core import locations
from core.errors import UserError

SCHEME = "package://"
PRICES = "configs/prices.yaml"
PROMPTS = "prompts"


def find(url: str, setting: str = "the setting that names it") -> Path:
    """Return the file that `url` names, as the distribution lists it: `package://<distribution>/<path>`.

    Raises UserError with the nearest names if it does not exist. No message advises an install command: a
    misspelled name may be that of a stranger's package.
    """
    distribution, _, inside = url.removeprefix(SCHEME).partition("/")
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
    if inside not in listed:
        near = difflib.get_close_matches(inside, list(listed), n=3, cutoff=0.5)
        hint = f"; near it: {', '.join(near)}" if near else f"; it lists {len(files)} other files"
        raise UserError(f"{url}: the package {distribution} lists no file {inside!r}{hint}")
    path = Path(str(listed[inside].locate()))
    if not path.is_file():
        raise UserError(f"{url}: the package lists this file, but {path} does not exist; reinstall it")
    return path.resolve()


def find_default(path: str, setting: str) -> Path:
    """Return the file that a config names: in the working directory, else among the defaults of this package.

    The defaults are `prompts/*.yaml` and `configs/prices.yaml`. If there is none, the path is returned as the
    config names it. Raises UserError, naming `setting`, for a misspelled location.
    """
    location = locations.normalized(path, setting, schemes=(), kind="a local file")
    named, parts = Path(location), PurePosixPath(location).parts
    if named.exists() or not (location == PRICES or (len(parts) == 2 and parts[0] == PROMPTS)):
        return named
    package = Path(str(resources.files("core")))
    installed = package / "defaults"
    default = (installed if installed.is_dir() else package.parent) / location
    return default if default.is_file() else named
