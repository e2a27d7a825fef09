"""What runs: the distill flow and the command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from flows import environment


def _refuse_shadows() -> None:
    """A folder `core/` in the working directory hides ours wherever that directory is on the path.

    Found here, before anything of ours is imported, so that it is said and not met as a riddle.
    """
    home = Path(__file__).resolve().parents[1]
    for name in ("core", "tasks"):
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or []) if spec else []
        if home not in {Path(place).resolve().parent for place in places[:1]}:
            where = places[0] if places else "nowhere"
            raise ImportError(
                f"the package {name!r} is taken from {where} and not from {home}: a folder of that "
                "name shadows ours; run from another directory, or rename the folder"
            )


_refuse_shadows()
environment.set_defaults()
