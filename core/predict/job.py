"""A table of texts answered in parts, so that what was answered before a crash is not answered again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock, Timeout

from core import jsonio
from core.batches import batched
from core.bundle.contents import FILE
from core.bundle.opening import Weights
from core.data import sources
from core.errors import StoreError, UserError
from core.files import replace_bytes, sync, user_cache
from core.predict import sink
from core.predict.sink import OutputFormat
from core.predict.source import InputRow, Source
from core.predict.student import Student
from core.progress import Progress, Silent

log = logging.getLogger(__name__)

VERSION = 2
"""Raise when the same job would be answered otherwise: parts of an earlier one are then refused."""
PART_ROWS = 1024
"""Rows that are answered at once. Part of what decides a score's last bits, so it is no setting."""
_JOB = "job.json"
_BAD_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Job:
    """Texts from `source` answered by the bundle in `folder` into `output`, a path or an fsspec URL."""

    folder: Path
    source: Source
    output: str
    format: OutputFormat
    reasoning: bool = False
    weights: Weights = "adapter"

    @property
    def parts(self) -> Path:
        """The folder of what is answered until now: beside the output, or in the user's cache."""
        if sources.is_local(self.output):
            path = sources.local_path(self.output)
            return path.with_name(f".{path.name}.parts")
        return user_cache() / "predict" / jsonio.digest(self.output)[:16]

    def part(self, i: int) -> Path:
        """The file of one part."""
        return self.parts / f"{i:06d}.jsonl"

    def chunks(self) -> Iterator[list[InputRow]]:
        """The rows, as many as are answered at once."""
        return batched(self.source.rows(), PART_ROWS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: its rows, those that have an error, texts that were cut, and where it was written."""

    rows: int
    errors: int
    cut: int
    output: str
    reused: int = 0
    """Rows that were answered before."""


@contextmanager
def held(job: Job, *, overwrite: bool = False, restart: bool = False) -> Iterator[int]:
    """Take a job up, or begin it, and let nobody else; gives its number of rows.

    Raises UserError where the output is there, where somebody else is at it, and where what is answered
    until now belongs to another model, input or setting.
    """
    if sources.is_local(job.output) and sources.local_path(job.output).is_dir():
        raise UserError(f"{sources.place(job.output)} is a folder; name a file in it")
    if not overwrite and sources.exists(job.output):
        raise UserError(f"{sources.place(job.output)} is there already; name another, or add --overwrite")
    lock = FileLock(f"{job.parts}.lock", timeout=0)
    with _kept(job.parts):
        job.parts.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is writing {sources.place(job.output)}; wait for it") from None
    try:
        if restart:
            shutil.rmtree(job.parts, ignore_errors=True)
        yield _begun(job)
    finally:
        lock.release()
        if not job.parts.exists():
            Path(lock.lock_file).unlink(missing_ok=True)


def run(job: Job, student: Callable[[], Student], rows: int, progress: Progress | None = None) -> Outcome:
    """Answer what is not answered yet, in order, and write the output. `student` is asked for once."""
    progress, asked, done, reused = progress or Silent(), None, 0, 0
    try:
        for i, chunk in enumerate(job.chunks()):
            if job.part(i).is_file():
                reused += len(chunk)
            else:
                asked = asked or student()
                answer(job, i, chunk, asked, Within(progress, done, rows))
            done += len(chunk)
            progress.update(done, rows)
    finally:
        if asked is not None:
            asked.close()
    return assemble(job, reused)


def answer(job: Job, i: int, chunk: Sequence[InputRow], student: Student, progress: Progress) -> None:
    """Answer one part and keep it. The rows that cannot be asked pass through."""
    records = answered(chunk, student, reasoning=job.reasoning, progress=progress)
    with _kept(job.part(i)):
        replace_bytes(job.part(i), "".join(f"{sink.line(row)}\n" for row in records).encode())


def answered(
    chunk: Sequence[InputRow], student: Student, *, reasoning: bool, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """What is written of each row, in order, and how many tokens of it were cut under `cut_tokens`."""
    sound = [row for row in chunk if row.problem is None]
    said = iter(student([row.text for row in sound], reasoning=reasoning, progress=progress) if sound else [])
    out = []
    for row in chunk:
        prediction = next(said) if row.problem is None else None
        record = sink.record(row, prediction, reasoning=reasoning)
        out.append({**record, "cut_tokens": prediction.cut_tokens if prediction else 0})
    return out


def assemble(job: Job, reused: int = 0) -> Outcome:
    """Put the parts together into the output, which appears at once, and remove them."""
    counts = {"rows": 0, "errors": 0, "cut": 0}
    paths = sorted(job.parts.glob("*.jsonl"))
    whole = job.parts / "output"
    with _kept(whole):
        sink.write(whole, job.format, _counted(paths, counts), reasoning=job.reasoning)
        sync([whole])
    if sources.is_local(job.output):
        place = sources.local_path(job.output)
        with _kept(place):
            whole.replace(place)
    else:
        fs, path = fsspec.core.url_to_fs(job.output)
        fs.put_file(str(whole), path)
    shutil.rmtree(job.parts)
    return Outcome(counts["rows"], counts["errors"], counts["cut"], sources.place(job.output), reused)


def _counted(paths: Iterable[Path], counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for row in jsonio.read_jsonl(path):
            counts["rows"] += 1
            counts["cut"] += row.pop("cut_tokens") > 0
            counts["errors"] += row["error"] is not None
            if row["error"] is not None and counts["errors"] <= _BAD_SHOWN:
                log.warning("%s: %s", row["id"] or "a row without an id", row["error"])
            yield row


def _begun(job: Job) -> int:
    """The number of rows; what is answered until now is of this very job."""
    key = {
        "version": VERSION,
        "bundle": jsonio.file_digest(job.folder / FILE),
        "input": job.source.digest(),
        **{k: v for k, v in asdict(job.source).items() if k != "url"},
        "reasoning": job.reasoning,
        "weights": job.weights,
    }
    path = job.parts / _JOB
    if path.is_file():
        earlier = jsonio.read_json(path)
        other = [name for name in key if earlier["key"].get(name) != key[name]]
        if other:
            raise UserError(
                f"{job.parts} holds what another job answered ({', '.join(other)} differs): finish that one, "
                "or add --restart to throw it away"
            )
        rows: int = earlier["rows"]
        return rows
    rows = sum(1 for _ in job.source.rows())
    with _kept(path):
        job.parts.mkdir(exist_ok=True)
        replace_bytes(path, jsonio.canonical({"key": key, "rows": rows}))
    return rows


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Say it in a sentence where something cannot be written."""
    try:
        yield
    except OSError as e:
        raise StoreError(
            f"cannot write {path}: {e.strerror or e}; make room, or name another output: what is answered is "
            "kept, and the same command goes on"
        ) from e


@dataclass(frozen=True, slots=True)
class Within:
    """The progress of one part within the whole."""

    inner: Progress
    before: int
    rows: int

    def update(self, done: int, total: int, note: str = "") -> None:
        self.inner.update(min(self.before + done, self.rows), self.rows, note)
