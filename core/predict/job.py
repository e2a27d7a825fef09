"""Prediction of a table in parts, so that rows answered before a crash are not answered again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core import jsonio
from core.bundle import Weights
from core.bundle.contents import FILE
from core.data import sources
from core.engines.base import Device
from core.errors import RowsFailed, StoreError, UserError
from core.files import replace_bytes, sync, user_cache
from core.jsonio import Record
from core.predict import sink
from core.predict.options import OutputFormat, PredictOptions
from core.predict.source import InputRow, Source
from core.predict.student import Student
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
        """The folder of the answered parts: next to the output, or in the user's cache."""
        if sources.is_local(self.output):
            path = sources.local_path(self.output)
            return path.with_name(f".{path.name}.parts")
        return user_cache() / "predict" / jsonio.digest(self.output)[:16]

    def part(self, i: int) -> Path:
        """The file of one part."""
        return self.parts / f"{i:06d}.jsonl"

    def chunks(self) -> Iterator[list[InputRow]]:
        """The rows in batches of one part."""
        return batched(self.source.rows(), PART_ROWS)


class _JobFile(Record):
    """job.json: what decides the answers of an unfinished job, and its number of rows."""

    key: dict[str, Any]
    rows: int


@dataclass(slots=True)
class Outcome:
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
        """Count a record from `answered`, warn of the first few errors, and return the columns to write."""
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
def held(job: Job, *, overwrite: bool = False, restart: bool = False) -> Iterator[int]:
    """Start or resume a job under a lock; yields its number of rows.

    Raises UserError if the output exists, if another process works on it, and if the answered parts belong to
    another model, input or setting.
    """
    if sources.is_local(job.output) and sources.local_path(job.output).is_dir():
        raise UserError(f"{sources.place(job.output)} is a folder; name a file in it")
    if not overwrite and sources.exists(job.output):
        raise UserError(f"{sources.place(job.output)} exists already; name another, or add --overwrite")
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
    """Answer the missing parts, in order, and write the output. `student` is called at most once."""
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
    """Answer one part and write it. Rows that cannot be asked pass through."""
    records = answered(chunk, student, reasoning=job.reasoning, progress=progress)
    with _kept(job.part(i)):
        replace_bytes(job.part(i), "".join(f"{sink.line(row)}\n" for row in records).encode())


def answered(
    chunk: Sequence[InputRow], student: Student, *, reasoning: bool, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """The record of each row, in order, with two values that are only counted.

    `cut_tokens` is the number of tokens that did not fit; `overflow` is true if the row has content in
    unnamed columns, which is ignored.
    """
    sound = [row for row in chunk if row.problem is None]
    texts = [row.text for row in sound]
    predictions = iter(student(texts, reasoning=reasoning, progress=progress) if texts else [])
    out = []
    for row in chunk:
        prediction = next(predictions) if row.problem is None else None
        record = sink.record(row, prediction, reasoning=reasoning)
        cut = prediction.cut_tokens if prediction else 0
        out.append({**record, "cut_tokens": cut, "overflow": row.overflow})
    return out


@dataclass(frozen=True, slots=True)
class Shard:
    """`rows` rows of a job from part `first` on, in a file of their own, and how the model is opened."""

    job: Job
    number: int
    first: int
    rows: int
    base: str | None
    device: Device

    @property
    def file(self) -> Path:
        """The file with its rows."""
        return self.job.parts / f"shard-{self.number:04d}.rows"


def shards(job: Job, rows: int, base: str | None, device: Device) -> Iterator[Shard]:
    """Write the rows of every shard and yield it, in order; the input is then no longer needed."""
    parts = -(-rows // PART_ROWS)
    size = max(1, -(-parts // MOST_SHARDS))
    chunks = job.chunks()
    for number, first in enumerate(range(0, parts, size)):
        taken = [row for chunk in islice(chunks, size) for row in chunk]
        shard = Shard(job, number, first, len(taken), base, device)
        with shard.file.open("w", encoding="utf-8") as f:
            f.writelines(sink.line(asdict(row)) + "\n" for row in taken)
        yield shard


def answer_shard(shard: Shard, student: Callable[[], Student], progress: Progress) -> int:
    """Answer the missing parts; `student` is called only if there is one."""
    done, answered = 0, 0
    rows = (InputRow(**row) for row in jsonio.read_jsonl(shard.file))
    for i, chunk in enumerate(batched(rows, PART_ROWS), start=shard.first):
        if not shard.job.part(i).is_file():
            answer(shard.job, i, chunk, student(), Within(progress, done, shard.rows))
            answered += len(chunk)
        done += len(chunk)
        progress.update(done, shard.rows)
    return answered


def assemble(job: Job, reused: int = 0) -> Outcome:
    """Write the parts into the output, which appears complete or not at all, and remove them."""
    outcome, whole = Outcome(sources.place(job.output), reused=reused), job.parts / "output"
    answers = (row for path in sorted(job.parts.glob("*.jsonl")) for row in jsonio.read_jsonl(path))
    with _kept(whole):
        sink.write(whole, job.format, map(outcome.add, answers), reasoning=job.reasoning)
        sync([whole])
    expected = _JobFile.read(job.parts / _JOB).rows
    if outcome.rows != expected:
        raise StoreError(
            f"{job.parts} has {outcome.rows} answered rows, but the input had {expected}; it may have "
            "changed meanwhile: add --restart to answer it again"
        )
    if sources.is_local(job.output):
        place = sources.local_path(job.output)
        with _kept(place):
            whole.replace(place)
    else:
        fs, path = sources.filesystem(job.output)
        fs.put_file(str(whole), path)
    shutil.rmtree(job.parts)
    return outcome


def _begun(job: Job) -> int:
    """The number of rows; parts that were answered before belong to this very job."""
    path = job.parts / _JOB
    earlier = _JobFile.read(path) if path.is_file() else None
    digest, rows = (job.source.digest(), earlier.rows) if earlier else job.source.digest_and_rows()
    key = {
        "version": VERSION,
        "bundle": jsonio.file_digest(job.folder / FILE),
        "input": digest,
        **{k: v for k, v in asdict(job.source).items() if k != "url"},
        "reasoning": job.reasoning,
        "weights": job.weights,
    }
    if earlier is not None:
        if other := [name for name in key if earlier.key.get(name) != key[name]]:
            raise UserError(
                f"{job.parts} contains the parts of another job ({', '.join(other)} differs): finish that "
                "one, or add --restart to discard them"
            )
        return rows
    with _kept(path):
        job.parts.mkdir(exist_ok=True)
        replace_bytes(path, jsonio.canonical(_JobFile(key=key, rows=rows).to_json()))
    return rows


@contextmanager
def _kept(path: Path) -> Iterator[None]:
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
