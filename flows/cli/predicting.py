"""`understudy predict`: answer texts with a student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.batches import batched
from flows.cli import saying
from flows.cli.locating import STANDARD, readable, root_option, writable
from flows.cli.preparing import speak

if TYPE_CHECKING:
    from core.predict.job import Outcome
    from core.predict.source import InputRow, Source
    from core.predict.student import Student

_AT_ONCE = 64
"""Rows from standard input that are answered at once: whoever waits at a pipe's end waits less."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command line says."""

    model: str
    root: str
    texts: tuple[str, ...]
    input: str | None
    output: str | None
    format: str
    output_format: str | None
    text_column: str | None
    id_column: str | None
    encoding: str
    separator: str | None
    quotes: bool
    reasoning: bool
    weights: str
    base_model: str | None
    device: str
    threads: int | None
    runner: str | None
    workers: int
    overwrite: bool
    restart: bool
    fail_on_error: bool

    def bundle(self) -> Path:
        """Where the model is."""
        from core.predict.finding import find

        return find(self.model, self.root, merged=self.weights == "merged")

    def source(self, bundle: Path) -> Source:
        """Where the texts are; columns are by default those of the training data."""
        from core.bundle.opening import read_contents
        from core.predict.source import Source, text_columns

        text_column, second_choice = text_columns(self.text_column, read_contents(bundle).columns["text"])
        return Source(
            url=self.input or STANDARD,
            format=self.format,  # type: ignore[arg-type]  # click has checked it
            text_column=text_column,
            id_column=self.id_column,
            encoding=self.encoding,
            separator=self.separator,
            quotes=self.quotes,
            second_choice=second_choice,
        ).resolved()

    def student(self, bundle: Path) -> Student:
        """The model in memory."""
        from core.bundle.opening import Device
        from core.predict.student import open_student

        weights: Any = self.weights  # click has checked it
        return open_student(bundle, weights, self.base_model, Device(self.device, self.threads))


_OPTIONS = (
    click.option(
        "--model",
        default="latest",
        show_default=True,
        callback=readable,
        help="latest, a run, a folder or a URL.",
    ),
    root_option("Where published runs are."),
    click.option("--text", "texts", multiple=True, metavar="TEXT", help="A text; may stand several times."),
    click.option("--input", callback=readable, help="A table, or - for standard input, a text a line."),
    click.option(
        "--output",
        callback=writable,
        help="A .csv, .jsonl or .parquet; by default standard output, as JSON lines.",
    ),
    click.option(
        "--format",
        type=click.Choice(["auto", "csv", "tsv", "jsonl", "parquet", "lines"]),
        default="auto",
        show_default=True,
        help="How the input is written; auto goes by its ending.",
    ),
    click.option(
        "--output-format",
        type=click.Choice(["csv", "jsonl", "parquet"]),
        help="How the output is written; by default what its ending says.",
    ),
    click.option(
        "--text-column", help="The column of the text; by default that of the training data, or else text."
    ),
    click.option("--id-column", help="The column of the id; by default the id is a hash of the text."),
    click.option("--encoding", default="utf-8", show_default=True, help="Of the input's text."),
    click.option("--separator", help="Of CSV columns; by default a comma, of TSV a tab."),
    click.option("--quotes", type=bool, default=True, show_default=True, help="Do quotes enclose fields?"),
    click.option("--reasoning", is_flag=True, help="Write the reasoning and the rules it cites; far slower."),
    click.option(
        "--weights",
        type=click.Choice(["adapter", "merged", "server"]),
        default="adapter",
        show_default=True,
        help="Adapter over its base model, the bundle's merged weights, or the training server's own.",
    ),
    click.option(
        "--base-model", callback=readable, help="Where the base model is, if not where it was in training."
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads."),
    click.option(
        "--runner",
        type=click.Choice(["threads", "dask", "ray"]),
        help="Carry it out as a Prefect flow in shards, on this runner.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Processes of dask or ray on this machine, each with a model of its own.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace the output if it is there."),
    click.option("--restart", is_flag=True, help="Throw away what an unfinished job left beside the output."),
    click.option("--fail-on-error", is_flag=True, help="Exit with code 1 if any row has an error."),
)


def _asks(command: Callable[..., None]) -> Callable[..., None]:
    def asked(**values: Any) -> None:
        command(Ask(**{f.name: values[f.name] for f in fields(Ask)}))

    asked.__doc__ = command.__doc__
    wrapped: Callable[..., None] = asked
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@click.command("predict")
@_asks
def predict(ask: Ask) -> None:
    """Answer texts with a student: id, label, probability, threshold and error of each, in order.

    A table is answered in parts: after a crash the same command goes on. A row that cannot be read, such as
    one with more fields than the header, passes through with its error. Rows with an error are counted on
    standard error, and with --fail-on-error the exit code is 1 if there are any.
    """
    if ask.texts and (ask.input or ask.output):
        raise click.UsageError("--text is answered on standard output; leave --input and --output out")
    from flows import environment

    environment.prepare()
    speak("INFO")
    if ask.texts:
        _answer_texts(ask)
    elif ask.output in (None, STANDARD):
        _answer_stream(ask)
    elif ask.input in (None, STANDARD):
        raise click.UsageError("standard input is answered on standard output; leave --output out")
    else:
        _end(_answer_table(ask), ask)


def _answer_texts(ask: Ask) -> None:
    from core.data.hashing import text_id
    from core.predict.source import InputRow

    texts = [_decoded(text) for text in ask.texts]
    rows = [InputRow(text_id(t), t, None if t.strip() else "the text is empty") for t in texts]
    _stream(ask, ask.bundle(), iter([rows]))


def _decoded(argument: str) -> str:
    """An argument whose bytes Python could not decode, as in an ASCII locale, read as UTF-8."""
    if not any("\udc80" <= c <= "\udcff" for c in argument):
        return argument
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _answer_stream(ask: Ask) -> None:
    """As they come, without anything that could be resumed."""
    if ask.runner is not None or ask.output_format == "parquet":
        raise click.UsageError("a runner, and Parquet, need an --output file")
    bundle = ask.bundle()
    _stream(ask, bundle, batched(ask.source(bundle).rows(), _AT_ONCE))


def _stream(ask: Ask, bundle: Path, chunks: Iterator[list[InputRow]]) -> None:
    import csv

    from core.predict import sink
    from core.predict.job import Tally, answered

    out, tally = saying.data_output(), Tally()
    writer = csv.writer(out, lineterminator="\n") if ask.output_format == "csv" else None
    names = sink.columns(reasoning=ask.reasoning)
    if writer is not None:
        writer.writerow(names)
    with ask.student(bundle) as student:
        for chunk in chunks:
            for row in map(tally.add, answered(chunk, student, reasoning=ask.reasoning)):
                if writer is not None:
                    writer.writerow([sink.field(row[name]) for name in names])
                else:
                    out.write(sink.line({name: row[name] for name in names}) + "\n")
            out.flush()
    _end(tally.outcome("standard output"), ask)


def _answer_table(ask: Ask) -> Outcome:
    from core.predict import job as jobs
    from core.predict import sink

    assert ask.output is not None, "a table is written to a file"
    kind = sink.output_format(ask.output, ask.output_format)  # type: ignore[arg-type]  # click has checked it
    folder = ask.bundle()
    if ask.runner is not None:
        return _on_runner(ask)
    job = jobs.Job(
        folder,
        ask.source(folder),
        ask.output,
        kind,
        ask.reasoning,
        ask.weights,  # type: ignore[arg-type]
    )
    with jobs.held(job, overwrite=ask.overwrite, restart=ask.restart) as rows:
        return jobs.run(job, lambda: ask.student(folder), rows, _Shown("predict"))


def _on_runner(ask: Ask) -> Outcome:
    from flows import environment

    environment.check_prefect()
    environment.detach_temporary_server()
    from flows.predict import predict as on_runner

    given = {f.name: getattr(ask, f.name) for f in fields(Ask) if f.name not in ("texts", "fail_on_error")}
    found: Outcome = on_runner(**given)
    return found


class _Shown:
    """A bar on a terminal, lines in a pipe."""

    def __init__(self, what: str) -> None:
        from core.progress import LogProgress
        from core.progressbar import Bar

        self._log, self._bar = LogProgress(what), Bar(what)

    def update(self, done: int, total: int, note: str = "") -> None:
        self._log.update(done, total, note)
        self._bar.update(done, total, note)


def _end(found: Outcome, ask: Ask) -> None:
    """Count what became of the rows, and fail if that was asked for."""
    notes = []
    if found.reused:
        notes.append(f"{found.reused:,} of them were answered before")
    if found.errors:
        notes.append(f"{found.errors:,} have an error, see its column")
    if found.cut:
        notes.append(f"of {found.cut:,} the text was cut to fit")
    if found.overflow:
        notes.append(f"{found.overflow:,} have content in unnamed columns, which was ignored")
    if notes or ask.output not in (None, STANDARD):
        saying.tell("; ".join([f"Done: {found.rows:,} rows in {found.output}", *notes]))
    found.check(fail_on_error=ask.fail_on_error)
