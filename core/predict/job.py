"""Prediction of a table in parts, so that rows answered before a crash are not answered again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core import jsonio
from core.data import sources
from core.durable import replace_bytes, sync, user_cache
from core.engines import Device
from core.errors import RowsFailed, StoreError, UserError
from core.export import Weights
from core.export.bundle import FILE
from core.jsonio import Record
from core.predict import OutputFormat, PredictOptions
from core.predict.loaded_student import LoadedModel
from core.predict.table_io import InputRow, TextSource, json_line, output_format, output_record, write_output
from core.progress import Progress, Silent
from core.records import batched

log = logging.getLogger(__name__)

VERSION = 2
"""Raise if the same job would get other answers: parts of an earlier version are then refused."""
PART_ROWS = 1024
"""Rows that are answered at once. It decides the last bits of a score, so it is not a setting."""
MOST_SHARDS = 200
"""Shards of one job: a task costs Prefect up to 60 ms and 20 kB."""
_JOB = "job.json"
_BAD_SHOWN = 5
_COUNTED = ("cut_tokens", "overflow")


@dataclass(frozen=True, slots=True)
class Job:
    """Texts from `source` answered by the bundle in `folder` into `output`, a path or an fsspec URL."""

    folder: Path
    source: TextSource
    output: str
    format: OutputFormat
    reasoning: bool = False
    weights: Weights = "adapter"

    @staticmethod
    def of(options: PredictOptions, bundle: Path) -> Job:
        """The job that `options` describe, for the bundle in a local folder."""
        kind = output_format(options.output, options.output_format)
        source = TextSource.of(options, bundle)
        return Job(bundle, source, options.output, kind, options.reasoning, options.weights)

    @property
    def parts(self) -> Path:
        """The folder of the parts: next to the output, or in the user's cache."""
        if sources.is_local(self.output):
            path = sources.local_path(self.output)
            return path.with_name(f".{path.name}.parts")
        return user_cache() / "predict" / jsonio.digest(self.output)[:16]

    def asked(self, i: int) -> Path:
        """The file with the rows of one part, until they are answered."""
        return self.parts / f"{i:06d}.rows"

    def answered(self, i: int) -> Path:
        """The file with the answers of one part."""
        return self.parts / f"{i:06d}.jsonl"


class _JobFile(Record):
    """job.json: what decides the answers of an unfinished job, and its number of rows."""

    key: dict[str, Any]
    rows: int


@dataclass(slots=True)
class JobResult:
    """The place of a job's output, and counts of the rows that have passed through `add`."""

    output: str
    rows: int = 0
    errors: int = 0
    cut: int = 0
    """Truncated texts."""
    unanswered: int = 0
    """Rows that have an error and no probability."""
    overflow: int = 0
    """Rows with content in unnamed columns, which was ignored."""
    reused: int = 0
    """Rows that were answered before."""

    def check(self, *, fail_on_error: bool) -> None:
        """Raise UserError if no row was answered, and RowsFailed if errors are not accepted."""
        if self.rows and self.unanswered == self.rows:
            raise UserError("no row could be answered")
        if fail_on_error and self.errors:
            raise RowsFailed(f"{self.errors:,} of {self.rows:,} rows have an error; see the error column")

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        """Count a record from `records`, warn of the first few errors, and return the columns to write."""
        failed = record["error"] is not None
        self.rows += 1
        self.errors += failed
        self.unanswered += failed and record["probability"] is None
        self.cut += record["cut_tokens"] > 0
        self.overflow += record["overflow"]
        if failed and self.errors <= _BAD_SHOWN:
            log.warning("%s: %s", record["id"] or "a row without an id", record["error"])
        return {key: value for key, value in record.items() if key not in _COUNTED}


@contextmanager
def locked(job: Job, *, overwrite: bool = False, restart: bool = False) -> Iterator[int]:
    """Start or resume a job under a lock; yields its number of rows. The input is then no longer needed.

    Raises UserError if the output exists, if another process works on it, and if the answered parts belong to
    another model, input or setting.
    """
    if sources.is_local(job.output) and sources.is_folder(job.output):
        raise UserError(f"{sources.place(job.output)} is a folder; name a file in it")
    if not overwrite and sources.exists(job.output):
        raise UserError(f"{sources.place(job.output)} exists already; name another, or add --overwrite")
    lock = FileLock(f"{job.parts}.lock", timeout=0)
    with _writing(job.parts):
        job.parts.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is writing {sources.place(job.output)}; wait for it") from None
    try:
        if restart:
            shutil.rmtree(job.parts, ignore_errors=True)
        yield _start_or_resume(job)
    finally:
        if not (job.parts / _JOB).is_file():  # nothing has been answered
            shutil.rmtree(job.parts, ignore_errors=True)
        lock.release()
        if not job.parts.exists():
            Path(lock.lock_file).unlink(missing_ok=True)


def run(
    job: Job, student: Callable[[], LoadedModel], rows: int, progress: Progress | None = None
) -> JobResult:
    """Answer the missing parts, in order, and write the output. `student` is called at most once."""
    with ExitStack() as stack:
        opened = cache(lambda: stack.enter_context(closing(student())))
        answered = answer(job, range(_parts(rows)), rows, opened, progress or Silent())
    return assemble(job, rows - answered)


def answer(job: Job, parts: range, rows: int, student: Callable[[], LoadedModel], progress: Progress) -> int:
    """Answer the missing ones of `parts`, which have `rows` rows, and return the number of rows answered.

    `student` is called for each part that is missing.
    """
    answered, done = 0, 0
    for i in parts:
        if not job.answered(i).is_file():
            chunk = [InputRow(**row) for row in jsonio.read_jsonl(job.asked(i))]
            within = Within(progress, done, rows)
            lines = map(json_line, records(chunk, student(), reasoning=job.reasoning, progress=within))
            with _writing(job.answered(i)):
                replace_bytes(job.answered(i), "".join(f"{line}\n" for line in lines).encode())
                job.asked(i).unlink(missing_ok=True)
            answered += len(chunk)
        done = min(done + PART_ROWS, rows)
        progress.update(done, rows)
    return answered


def records(
    chunk: Sequence[InputRow], student: LoadedModel, *, reasoning: bool, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """The record of each row, in order, with two values that are only counted.

    `cut_tokens` is the number of tokens that did not fit; `overflow` is true if the row has content in
    unnamed columns, which is ignored. Rows that cannot be asked pass through with their problem.
    """
    texts = [row.text for row in chunk if row.problem is None]
    predictions = iter(student(texts, reasoning=reasoning, progress=progress) if texts else [])
    out = []
    for row in chunk:
        prediction = next(predictions) if row.problem is None else None
        record = output_record(row, prediction, reasoning=reasoning)
        cut = prediction.cut_tokens if prediction else 0
        out.append({**record, "cut_tokens": cut, "overflow": row.overflow})
    return out


@dataclass(frozen=True, slots=True)
class Shard:
    """Parts of a job that are answered by one task, with `rows` rows, and how the model is opened."""

    job: Job
    number: int
    parts: range
    rows: int
    base: str | None
    device: Device


def shards(job: Job, rows: int, base: str | None, device: Device) -> Iterator[Shard]:
    """Divide a job into at most MOST_SHARDS shards, in order."""
    count = _parts(rows)
    size = max(1, -(-count // MOST_SHARDS))
    for number, first in enumerate(range(0, count, size)):
        end = min(first + size, count)
        own = min(rows, end * PART_ROWS) - first * PART_ROWS
        yield Shard(job, number, range(first, end), own, base, device)


def assemble(job: Job, reused: int) -> JobResult:
    """Write the parts into the output, which appears complete or not at all, and remove them."""
    outcome, whole = JobResult(sources.place(job.output), reused=reused), job.parts / "output"
    expected = _JobFile.read(job.parts / _JOB).rows
    # By name: a killed process may have left a temporary file among the parts.
    parts = [part for i in range(_parts(expected)) if (part := job.answered(i)).is_file()]
    answers = (row for part in parts for row in jsonio.read_jsonl(part))
    with _writing(whole):
        write_output(whole, job.format, map(outcome.add, answers), reasoning=job.reasoning)
        sync([whole])
    if outcome.rows != expected:
        raise StoreError(
            f"{job.parts} has {outcome.rows} answered rows, but the input had {expected}; it may have "
            "changed meanwhile: add --restart to answer it again"
        )
    if sources.is_local(job.output):
        place = sources.local_path(job.output)
        with _writing(place):
            whole.replace(place)
    else:
        fs, path = sources.filesystem(job.output)
        fs.put_file(str(whole), path)
    shutil.rmtree(job.parts)
    return outcome


def _start_or_resume(job: Job) -> int:
    """The number of rows. Parts that were answered before belong to this very job, the others have rows."""
    path = job.parts / _JOB
    earlier = _JobFile.read(path) if path.is_file() else None
    settings = asdict(job.source)
    del settings["url"], settings["second_choice"]
    key = {
        "version": VERSION,
        "bundle": jsonio.file_digest(job.folder / FILE),
        "input": job.source.digest(),
        **settings,
        "reasoning": job.reasoning,
        "weights": job.weights,
    }
    if earlier is not None:
        if other := [name for name in key if earlier.key.get(name) != key[name]]:
            raise UserError(
                f"{job.parts} contains the parts of another job ({', '.join(other)} differs): finish that "
                "one, or add --restart to discard them"
            )
        if all(job.answered(i).is_file() or job.asked(i).is_file() for i in range(_parts(earlier.rows))):
            return earlier.rows
    else:  # parts without their job are remains of an interrupted cleanup
        shutil.rmtree(job.parts, ignore_errors=True)
    rows = 0
    with _writing(job.parts):
        job.parts.mkdir(exist_ok=True)
    for i, chunk in enumerate(batched(job.source.rows(), PART_ROWS)):
        with _writing(job.asked(i)):
            lines = (json_line(asdict(row)) + "\n" for row in chunk)
            job.asked(i).write_text("".join(lines), encoding="utf-8")
        rows += len(chunk)
    with _writing(path):
        sync(job.parts.glob("*.rows"))
        replace_bytes(path, jsonio.canonical(_JobFile(key=key, rows=rows).to_json()))
    return rows


def _parts(rows: int) -> int:
    return -(-rows // PART_ROWS)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise StoreError with place and remedy if something cannot be written."""
    try:
        yield
    except OSError as e:
        raise StoreError(
            f"cannot write {path}: {e.strerror or e}; free disk space, or name another output: answered rows "
            "are kept, and the same command continues"
        ) from e


@dataclass(frozen=True, slots=True)
class Within:
    """The progress of one part within the whole."""

    inner: Progress
    before: int
    rows: int

    def update(self, done: int, total: int, note: str = "") -> None:
        self.inner.update(min(self.before + done, self.rows), self.rows, note)
