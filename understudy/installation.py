"""Check that our packages are the ones that Python finds.

Two mistakes end in a puzzling ImportError otherwise: a folder in the working directory with the name of one
of our packages, and the distribution `understudy` of another project, which ships a package of this name.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
_OTHER_PROJECT = "understudy"
"""A distribution on the package index that is not ours; ours is `understudy-distill`."""


@functools.cache  # both our package and flows ask, whichever is imported first
def check_packages() -> None:
    """Raise ImportError if a package of ours is shadowed or shares its files with another project's."""
    for name in ("core", "tasks", "flows"):
        spec = importlib.util.find_spec(name)
        locations = list(spec.submodule_search_locations or []) if spec else []
        if not locations or Path(locations[0]).resolve().parent != HOME:
            found = locations[0] if locations else "nowhere"
            raise ImportError(
                f"the package {name!r} is taken from {found} and not from {HOME}: a folder of that "
                "name shadows ours; run from another directory, or rename the folder"
            )
    # Not by importlib.metadata, which would double the time of `--help`.
    if any(any(Path(entry).glob(f"{_OTHER_PROJECT}-*.dist-info")) for entry in sys.path):
        raise ImportError(
            f"the distribution {_OTHER_PROJECT!r} is installed: it is another project, and its package "
            "overwrites files of ours; run `pip uninstall understudy`, then "
            "`pip install --force-reinstall --no-deps understudy-distill`"
        )
