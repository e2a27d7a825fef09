"""`understudy predict`: answer texts with a student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import click

from core.predict import STANDARD, About, PredictOptions
from core.records import batched, text_id
from flows import environment
from flows.cli import console
from flows.cli.console import readable, writable

if TYPE_CHECKING:
    from core.predict.job import JobResult
    from core.predict.loaded_student import LoadedModel
    from core.predict.table_io import InputRow

_AT_ONCE = 64
"""Rows from standard input that are predicted at once: fewer make a reader at the pipe's end wait less."""
_CHECKS = {None: None, "read": readable, "written": writable}


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option to the command for each field of PredictOptions, which the command is called with."""
    hints = get_type_hints(PredictOptions, include_extras=True)
    about: dict[str, About] = {name: hint.__metadata__[0] for name, hint in hints.items()}

    def with_options(texts: tuple[str, ...], **given: Any) -> None:
        command(texts, PredictOptions(**given))

    with_options.__doc__ = command.__doc__
    wrapped: Callable[..., None] = with_options
    for each in reversed([f for f in fields(PredictOptions) if about[f.name].command]):
        bare, default = hints[each.name].__origin__, each.default
        if type(None) in get_args(bare):  # an option that may be left out
            (bare,) = (kind for kind in get_args(bare) if kind is not type(None))
        settings: dict[str, Any] = {}
        if get_origin(bare) is Literal:
            settings["type"] = click.Choice(get_args(bare))
        elif bare is int:
            settings["type"] = click.IntRange(min=1)
        elif bare is bool:
            settings |= {"is_flag": True} if default is False else {"type": bool}
        wrapped = click.option(
            f"--{each.name.replace('_', '-')}",
            default=default,
            help=about[each.name].help,
            callback=_CHECKS[about[each.name].location],
            show_default=default not in (None, False, STANDARD),
            **settings,
        )(wrapped)
    return click.option("--text", "texts", multiple=True, metavar="TEXT", help="A text; repeatable.")(wrapped)


@click.command("predict")
@_with_options
def predict(texts: tuple[str, ...], options: PredictOptions) -> None:
    """Answer texts with a student: id, label, probability, threshold and error of each, in order.

    A table is answered in parts: after a crash the same command continues. A row that cannot be read, such as
    one with more fields than the header, passes through with its error. Rows with an error are counted on
    standard error, and with --fail-on-error the exit code is 1 if there are any.
    """
    streams = bool(texts) or options.output == STANDARD
    if texts and (options.input, options.output) != (STANDARD, STANDARD):
        raise click.UsageError("--text is answered on standard output; leave --input and --output out")
    if not streams and options.input == STANDARD:
        raise click.UsageError("standard input is answered on standard output; leave --output out")
    if streams and not texts and (options.runner is not None or options.output_format == "parquet"):
        raise click.UsageError("a runner, and Parquet, need an --output file")
    environment.prepare()
    console.start_log("INFO")
    from core.engines import Device
    from core.predict import job as jobs
    from core.predict.loaded_student import find, open_model
    from core.predict.table_io import TextSource
    from core.progress import BarProgress

    bundle = find(options.model, options.root, merged=options.weights == "merged")
    device = Device(options.device, options.threads)

    def opened() -> LoadedModel:
        return open_model(bundle, options.weights, options.base_model, device)

    if streams:
        rows = _given(texts) if texts else TextSource.of(options, bundle).rows()
        found = _answer_stream(rows, opened, options)
    elif options.runner is not None:
        jobs.Job.of(options, bundle)  # checks the options before Prefect starts
        environment.check_prefect()
        environment.detach_temporary_server()
        from flows.predict import predict as on_runner

        # The command reports errors itself, after the flow has ended.
        found = on_runner(**asdict(replace(options, fail_on_error=False)))
    else:
        job = jobs.Job.of(options, bundle)
        with jobs.locked(job, overwrite=options.overwrite, restart=options.restart) as count:
            found = jobs.run(job, opened, count, BarProgress("predict"))
    _report(found, options)


def _given(arguments: tuple[str, ...]) -> Iterator[InputRow]:
    """The rows of --text; bytes that Python could not decode, as in an ASCII locale, are read as UTF-8."""
    from core.predict.table_io import InputRow

    for argument in arguments:
        text = argument
        if any("\udc80" <= c <= "\udcff" for c in argument):
            text = argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        yield InputRow(text_id(text), text, None if text.strip() else "the text is empty")


def _answer_stream(
    rows: Iterator[InputRow], opened: Callable[[], LoadedModel], options: PredictOptions
) -> JobResult:
    """Answer rows on standard output as they come; this cannot be resumed."""
    from core.predict import job, table_io

    out, outcome = console.data_output(), job.JobResult("standard output")
    write_row = table_io.csv_writer(out) if options.output_format == "csv" else None
    chunks = batched(rows, _AT_ONCE)
    first = next(chunks, None)  # an input that cannot be read fails before the model is loaded
    names = table_io.output_columns(reasoning=options.reasoning)
    if write_row is not None:
        write_row(names)
    with opened() as student:
        for chunk in chain([] if first is None else [first], chunks):
            for row in map(outcome.add, job.records(chunk, student, reasoning=options.reasoning)):
                if write_row is not None:
                    write_row(row[name] for name in names)
                else:
                    out.write(table_io.json_line({name: row[name] for name in names}) + "\n")
            out.flush()
    return outcome


def _report(found: JobResult, options: PredictOptions) -> None:
    notes = []
    if found.reused:
        notes.append(f"{found.reused:,} of them were answered before")
    if found.errors:
        notes.append(f"{found.errors:,} have an error, see its column")
    if found.cut:
        notes.append(f"of {found.cut:,} the text was cut to fit")
    if found.overflow:
        notes.append(f"{found.overflow:,} have content in unnamed columns, which was ignored")
    if notes or options.output != STANDARD:
        console.message("; ".join([f"Done: {found.rows:,} rows in {found.output}", *notes]))
    found.check(fail_on_error=options.fail_on_error)
