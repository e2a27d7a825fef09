"""Files inside installed packages, named `package://<distribution>/<path as it lists it>`.

The package is never imported: its list of files says where the file is.
"""

from __future__ import annotations

import difflib
from importlib import metadata
from pathlib import Path

from core.errors import UserError

SCHEME = "package://"


def find(url: str, setting: str = "the setting that names it") -> Path:
    """The file that `url` names. Raises UserError with the nearest names where there is none.

    No message advises an install command: a misspelled name may be that of a stranger's package.
    """
    distribution, _, inside = url.removeprefix(SCHEME).partition("/")
    if not distribution or not inside:
        raise UserError(
            f"{url} names no file of a package; write package://<distribution>/<path as it lists it>"
        )
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise UserError(
            f"{url}: the distribution {distribution} is not installed{_near(distribution)}; correct "
            f"{setting}, or add that distribution to your environment if you know who publishes it"
        ) from None
    for file in files:
        if file.as_posix() == inside:
            return _existing(Path(str(file.locate())), url)
    near = difflib.get_close_matches(inside, [f.as_posix() for f in files], n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else f"; it lists {len(files)} other files"
    raise UserError(f"{url}: the package {distribution} lists no file {inside!r}{hint}")


def _near(distribution: str) -> str:
    installed = {str(d.name) for d in metadata.distributions() if d.name}
    near = difflib.get_close_matches(distribution, sorted(installed), n=3, cutoff=0.6)
    return f" (near it: {', '.join(near)})" if near else ""


def _existing(path: Path, url: str) -> Path:
    if not path.is_file():
        raise UserError(f"{url}: the package lists this file, but {path} does not exist; reinstall it")
    return path.resolve()
