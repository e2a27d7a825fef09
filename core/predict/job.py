"""A table of texts answered in parts, so that what was answered before a crash is not answered again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core import jsonio
from core.batches import batched
from core.bundle import Weights
from core.bundle.contents import FILE
from core.data import sources
from core.errors import RowsFailed, StoreError, UserError
from core.files import replace_bytes, sync, user_cache
from core.predict import sink
from core.predict.options import OutputFormat, PredictOptions
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
_COUNTED = ("cut_tokens", "overflow")


@dataclass(frozen=True, slots=True)
class Job:
    """Texts from `source` answered by the bundle in `folder` into `output`, a path or an fsspec URL."""

    folder: Path
    source: Source
    output: str
    format: OutputFormat
    reasoning: bool = False
    weights: Weights = "adapter"

    @staticmethod
    def of(options: PredictOptions, bundle: Path) -> Job:
        """The job that `options` describe, for the bundle in a local folder."""
        kind = sink.output_format(options.output, options.output_format)
        source = Source.of(options, bundle)
        return Job(bundle, source, options.output, kind, options.reasoning, options.weights)

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
    """How a job ended: its rows, those that have an error, texts that were cut, and where it was written.

    `unanswered` rows have an error and no probability; the other errors are labels not to be trusted.
    """

    rows: int
    errors: int
    cut: int
    output: str
    reused: int = 0
    """Rows that were answered before."""
    unanswered: int = 0
    """Rows that have an error and no probability."""
    overflow: int = 0
    """Rows with content in unnamed columns, which was ignored."""

    def check(self, *, fail_on_error: bool) -> None:
        """Raise UserError where no row was answered, and RowsFailed where errors are not accepted."""
        if self.rows and self.unanswered == self.rows:
            raise UserError("no row could be answered")
        if fail_on_error and self.errors:
            raise RowsFailed(f"{self.errors:,} of {self.rows:,} rows have an error; see the error column")


@dataclass(slots=True)
class Tally:
    """Counts of the rows that have passed through `add`."""

    rows: int = 0
    errors: int = 0
    cut: int = 0
    unanswered: int = 0
    overflow: int = 0

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        """Count a record from `answered`, warn of the first few errors, and return what is written of it."""
        failed = record["error"] is not None
        self.rows += 1
        self.errors += failed
        self.unanswered += failed and record["probability"] is None
        self.cut += record["cut_tokens"] > 0
        self.overflow += record["overflow"]
        if failed and self.errors <= _BAD_SHOWN:
            log.warning("%s: %s", record["id"] or "a row without an id", record["error"])
        return {key: value for key, value in record.items() if key not in _COUNTED}

    def outcome(self, output: str, reused: int = 0) -> Outcome:
        """The counts as the end of a job."""
        return Outcome(self.rows, self.errors, self.cut, output, reused, self.unanswered, self.overflow)


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
    """What is written of each row, in order, with two values that are only counted.

    `cut_tokens` is the number of tokens that did not fit; `overflow` is true if the row has content in
    unnamed columns, which is ignored.
    """
    sound = [row for row in chunk if row.problem is None]
    said = iter(student([row.text for row in sound], reasoning=reasoning, progress=progress) if sound else [])
    out = []
    for row in chunk:
        prediction = next(said) if row.problem is None else None
        record = sink.record(row, prediction, reasoning=reasoning)
        cut = prediction.cut_tokens if prediction else 0
        out.append({**record, "cut_tokens": cut, "overflow": row.overflow})
    return out


def assemble(job: Job, reused: int = 0) -> Outcome:
    """Put the parts together into the output, which appears at once, and remove them."""
    tally = Tally()
    paths = sorted(job.parts.glob("*.jsonl"))
    whole = job.parts / "output"
    with _kept(whole):
        sink.write(whole, job.format, _counted(paths, tally), reasoning=job.reasoning)
        sync([whole])
    expected = jsonio.read_json(job.parts / _JOB)["rows"]
    if tally.rows != expected:
        raise StoreError(
            f"{job.parts} has {tally.rows} answered rows where the input had {expected}; it may have changed "
            "meanwhile: add --restart to answer it again"
        )
    if sources.is_local(job.output):
        place = sources.local_path(job.output)
        with _kept(place):
            whole.replace(place)
    else:
        fs, path = sources.filesystem(job.output)
        fs.put_file(str(whole), path)
    shutil.rmtree(job.parts)
    return tally.outcome(sources.place(job.output), reused)


def _counted(paths: Iterable[Path], tally: Tally) -> Iterator[dict[str, Any]]:
    return (tally.add(row) for path in paths for row in jsonio.read_jsonl(path))


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
