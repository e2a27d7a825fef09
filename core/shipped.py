"""Files that come with the package: the default prompts and the price table.

In the repository they are `prompts/*.yaml` and `configs/prices.yaml`; the wheel holds copies of them in
`core/defaults/`. A config names them by their place in the repository, and a file of that name in the
working directory comes first, so that a project can have its own.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path, PurePosixPath

from core import locations

PRICES = "configs/prices.yaml"
PROMPTS = "prompts"
_INSIDE = "defaults"


def find(path: str, setting: str) -> Path:
    """The file that a config names: the one in the working directory, else the one in the package.

    Where neither exists, the path as the config names it. Raises UserError, naming `setting`, for a
    misspelled location.
    """
    location = locations.normalized(path, setting)
    locations.require(location, setting, (), "a local file")
    named = Path(location)
    if named.exists() or not _is_shipped(location):
        return named
    own = _folder() / location
    return own if own.is_file() else named


def _is_shipped(location: str) -> bool:
    parts = PurePosixPath(location).parts
    return location == PRICES or (len(parts) == 2 and parts[0] == PROMPTS)


def _folder() -> Path:
    """`core/defaults` of an installed wheel; of a checkout, which has none, the repository."""
    package = Path(str(resources.files("core")))
    installed = package / _INSIDE
    return installed if installed.is_dir() else package.parent
