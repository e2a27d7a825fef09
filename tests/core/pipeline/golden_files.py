"""Golden outputs of every stage: read and compared by a test, and written by the command

python -m tests.core.pipeline.golden_files
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.pipeline import distillation, reinforcement  # noqa: F401  # they declare all stages
from core.stage import STAGES
from tests.answering_model import write_answering_model
from tests.core.pipeline.describing import describe, differences
from tests.core.pipeline.making import Made, make_all, write_small_project
from tests.small_project import write_tiny_model

FOLDER = Path(__file__).parent / "golden"
COMMAND = "python -m tests.core.pipeline.golden_files"
READS = {
    "sample": ("split",),
    "reject": ("split", "sample"),
    "encode": ("reject",),
    "train": ("encode",),
    "evaluate": ("split", "train"),
    "export": ("split", "train", "evaluate"),
    "baseline": ("split",),
    "decide": ("split", "export", "baseline"),
    "analyse": ("split", "export", "baseline", "decide"),
    "explain": ("split", "train", "export", "decide"),
    "bundle": ("split", "reject", "encode", "train", "export", "decide", "analyse"),
    "hardness": ("split", "sample", "export", "decide"),
    "reinforce": ("split",),
    "reward": ("split", "reinforce"),
}

NAMES = ("split", *READS)
"""The stages in their order, without adapter: the small project has no server to download one from."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One stage's output, and the version of the stage."""

    stage: str
    version: int
    outputs: Mapping[str, Any]


def golden_of(made: Made, stage: str) -> Golden:
    """The present output of a stage."""
    return Golden(stage, STAGES[stage].version, describe(made, stage))


def read(stage: str) -> Golden:
    """The expected output of a stage."""
    value = json.loads((FOLDER / f"{stage}.json").read_text(encoding="utf-8"))
    return Golden(value["stage"], value["version"], value["outputs"])


def write(golden: Golden) -> None:
    """Write a golden file, a line for each file of an output."""
    slots = []
    for slot, files in golden.outputs.items():
        lines = [f"   {json.dumps(name)}: {json.dumps(files[name], sort_keys=True)}" for name in files]
        slots.append(f"  {json.dumps(slot)}: {{\n" + ",\n".join(lines) + "\n  }")
    head = f' "stage": {json.dumps(golden.stage)},\n "version": {golden.version},\n "outputs": {{\n'
    text = "{\n" + head + ",\n".join(slots) + "\n }\n}\n"
    (FOLDER / f"{golden.stage}.json").write_text(text, encoding="utf-8")


def complaint(golden: Golden, found: Golden) -> str | None:
    """What is wrong with a stage and how to fix it; None if nothing is."""
    if golden.version != found.version:
        return (
            f"stage {found.stage} is of version {found.version}, its golden file of version "
            f"{golden.version}: write the golden file again with `{COMMAND}`"
        )
    differing = sorted(differences(golden.outputs, found.outputs))
    if not differing:
        return None
    shown = "".join(f"\n  {what}" for what in differing[:10])
    module = STAGES[found.stage].function.__module__.replace(".", "/") + ".py"
    return (
        f"the output of stage {found.stage} differs from its golden file in {len(differing)} places, but "
        f"its version is the same ({found.version}):{shown}\n"
        f"If this is meant, raise its version in {module}, since users' stored objects are stale, and "
        f"write new golden files with `{COMMAND}`.{_before(found.stage)}"
    )


def _before(stage: str) -> str:
    names = READS.get(stage, ())
    return f" Where {' or '.join(names)}, which it reads, differs too, begin there." if names else ""


def refused(made: Made) -> dict[str, str]:
    """Complaints about stages whose own output changed but whose version did not."""
    out: dict[str, str] = {}
    changed: set[str] = set()
    for stage in NAMES:
        found = golden_of(made, stage)
        if not (FOLDER / f"{stage}.json").is_file():
            continue
        golden = read(stage)
        message = complaint(golden, found)
        if message is None:
            continue
        follows = changed & set(READS.get(stage, ()))
        changed.add(stage)
        if golden.version == found.version and not follows:
            out[stage] = message
    return out


def main() -> int:
    """Write all golden files, unless a stage changed its output and kept its version."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--project-changed", action="store_true", help="the small project is another one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = _made(Path(folder).resolve())
        wrong = {} if arguments.project_changed else refused(made)
        if wrong:
            sys.stderr.write("\n\n".join(wrong.values()) + "\nNothing was written.\n")
            return 1
        FOLDER.mkdir(exist_ok=True)
        for stage in NAMES:
            write(golden_of(made, stage))
    return 0


def _made(folder: Path) -> Made:
    from core.base_model import resolve_model
    from tests.conftest import SMOLLM2

    tokenizer = resolve_model(SMOLLM2).folder
    write_tiny_model(folder / "tiny-model", tokenizer)
    write_answering_model(folder / "answering", tokenizer, "label_only")
    (folder / "project").mkdir()
    with contextlib.chdir(folder / "project"):
        return make_all(write_small_project(folder / "project", folder / "tiny-model", folder / "answering"))


if __name__ == "__main__":
    sys.exit(main())
