"""A stage's outputs as JSON that is the same on every machine, as far as the outputs are.

Texts are described by digests; numbers whose last bits depend on the processor are listed as they are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.numpy import load_file

from core import jsonio
from tests.core.pipeline.making import Made

TEXT_STAGES = frozenset({"split", "sample", "reject", "encode"})
# Values that depend on the machine, a version, the time or the last bits, not on the stage.
NOT_OUTPUT = frozenset(
    {
        "files",
        "largest",
        "bytes",
        "seconds",
        "seconds_by_step",
        "fingerprint",
        "peft_version",
        "digest",
        "adapter_digest",
        "checkpoint_digest",
        "base_digest",
    }
)
# A second generator's state exists only with a GPU.
NOT_TENSORS = frozenset({"cuda"})
DIGITS = 6
RELATIVE = 1e-3
# A policy's loss before its first update is a sum of advantages, which is nothing but for rounding.
ABSOLUTE = 1e-7
SUMMARY = "(summary)"


def describe(made: Made, stage: str) -> dict[str, Any]:
    """The outputs of a stage's calls: the description of each file, by slot and file."""
    return {
        slot: described(stage, made.store.folder(manifest), manifest.summary, made.folder)
        for slot, manifest in made.manifests.items()
        if manifest.stage == stage
    }


def described(stage: str, folder: Path, summary: Mapping[str, Any], project: Path) -> dict[str, Any]:
    """Every file of one output, and the summary that goes into its manifest."""
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    found = {name: _file(stage, folder / name, project) for name in files}
    return {**found, SUMMARY: _plain(summary)}


def _file(stage: str, path: Path, project: Path) -> Any:
    if path.suffix == ".parquet":
        return _columns_of_table(path)
    if path.suffix == ".safetensors":
        return {n: _tensor(t) for n, t in sorted(load_file(path).items()) if n not in NOT_TENSORS}
    if stage in TEXT_STAGES or path.suffix == ".csv" or (stage == "bundle" and _is_copied(path)):
        return _text(path, project)
    if path.suffix == ".md":
        return [line for line in path.read_text().splitlines() if line.startswith("#")]
    if path.suffix == ".jsonl":
        return _columns(list(jsonio.read_jsonl(path)))
    return _plain(jsonio.read_json(path))


def _is_copied(path: Path) -> bool:
    """A bundle's tokenizer, prompts and rulebook."""
    return path.parent.name == "tokenizer" or path.suffix in (".yaml", ".txt")


def _text(path: Path, project: Path) -> str:
    """sha256 of a text, in which paths inside the project begin with <project>."""
    text = path.read_bytes().replace(str(project).encode(), b"<project>")
    return hashlib.sha256(text).hexdigest()


def _columns_of_table(path: Path) -> dict[str, str]:
    """The sha256 of the values of each column: the bytes of the file contain the library's version."""
    table = pq.read_table(path)
    return {
        name: f"{table.schema.field(name).type} {jsonio.digest(table[name].to_pylist())}"
        for name in table.column_names
    }


def _tensor(tensor: Any) -> list[Any]:
    """Type, shape and Euclidean norm."""
    squares = float((tensor.astype("f8") ** 2).sum())
    return [str(tensor.dtype), list(tensor.shape), _rounded(math.sqrt(squares))]


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = sorted({name for row in rows for name in row})
    return {name: [_plain(row.get(name, "<no such field>")) for row in rows] for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: "<not compared>" if k in NOT_OUTPUT else _plain(v) for k, v in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def differences(golden: Any, found: Any, at: str = "") -> Iterator[str]:
    """Where two descriptions differ, each as a sentence; numbers within the tolerance do not."""
    if isinstance(golden, dict) and isinstance(found, dict):
        yield from (f"{_join(at, name)} is missing" for name in golden if name not in found)
        yield from (f"{_join(at, name)} is new" for name in found if name not in golden)
        for name in golden.keys() & found.keys():
            yield from differences(golden[name], found[name], _join(at, name))
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        for i, (a, b) in enumerate(zip(golden, found, strict=True)):
            yield from differences(a, b, f"{at}[{i}]")
    elif not _same(golden, found):
        yield f"{at} is {_short(found)} instead of {_short(golden)}"


def _same(golden: Any, found: Any) -> bool:
    if isinstance(golden, float) and isinstance(found, float):
        return math.isclose(golden, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(golden) is type(found) and bool(golden == found)


def _join(at: str, name: str) -> str:
    return f"{at}: {name}" if at else name


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
