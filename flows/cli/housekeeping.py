"""Commands that list, summarize, compare and remove runs and checkpoints, or import an earlier config."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import ConfigError
from flows.cli import console
from flows.cli.console import local_output, root_option

if TYPE_CHECKING:
    from core.engines import CheckpointServer
    from core.legacy.convert import Defaults
    from core.records import SplitName
    from core.summary.run_records import Modes
    from core.summary.summarize import Format

_ROOT = root_option("A folder or s3:// URL.")


@click.command("ls")
@_ROOT
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every field.")
def list_runs(root: str, as_json: bool) -> None:
    """List the runs under a root: state, size, and the student's metrics on test."""
    from core.store import Store
    from core.summary import run_records

    entries = run_records.list_runs(Store.at(root))
    if as_json:
        for entry in entries:
            console.show(json.dumps(asdict(entry), allow_nan=False))
        return
    if not entries:
        console.show(f"no runs under {root}")
        return
    head = ("run", "state", "at", "size", "step", "macro-F1", "AUROC", "log loss", "")
    rows = []
    for e in entries:
        step = "-" if e.best_step is None else str(e.best_step)
        values = [e.metrics.get(name) for name in ("macro_f1", "auroc", "log_loss")]
        numbers = ["-" if value is None else f"{value:.3f}" for value in values]
        latest = "latest" if e.latest else ""
        rows.append((e.name, e.state, e.at or "-", console.size(e.bytes), step, *numbers, latest))
    console.show_table(head, rows)


@click.command("publish")
@click.option("--run", required=True, help="The run.")
@click.option(
    "--scorer",
    default="student",
    show_default=True,
    help="student, tfidf_words, tfidf_chars, embedding or embedding_tfidf.",
)
@_ROOT
def publish(run: str, scorer: str, root: str) -> None:
    """Publish a scorer of a finished run: `predict --model RUN` then answers with it.

    So a recommendation of the report for a cheaper model can be followed. Publishing the student again undoes
    it.
    """
    from core.pipeline.publishing import publish_scorer

    for pointer in publish_scorer(run, scorer, root):
        console.show(f"published {scorer} of run {run}: {pointer}")


@click.command("rm")
@click.argument("run")
@_ROOT
@click.option(
    "--force", is_flag=True, help="Even if model/latest.json names it, or it belongs to earlier scripts."
)
def remove(run: str, root: str, force: bool) -> None:
    """Remove RUN's folder and the pointers to it; `understudy gc` then frees what only it used."""
    from core.store import Store
    from core.summary.run_records import remove_run

    for what in remove_run(Store.at(root), run, force=force):
        console.show(f"removed {what}")


@click.command("gc")
@_ROOT
@click.option("--delete", is_flag=True, help="Remove it; without this, only say what would go.")
@click.option(
    "--grace",
    "hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Hours; nothing younger is touched.",
)
def collect_garbage(root: str, delete: bool, hours: float) -> None:
    """Find objects that no run and no pointer refers to, and files that killed runs left."""
    from core.store import Store, pointers

    store = Store.at(root)  # not `open`, whose probe a full disk would refuse
    garbage = pointers.find_garbage(store, hours * 3600)
    for (stage, key), files in sorted(garbage.objects.items()):
        console.show(f"{console.size(sum(f.bytes for f in files)):>9}  {stage} {key[:12]}")
    if delete:
        garbage = pointers.collect(store, garbage)
        store.copies.sweep(
            {"/".join(f.path.split("/")[:4]) for f in store.backend.list("objects")}, hours * 3600
        )
    if garbage.young:
        console.show(f"{garbage.young} objects that nothing refers to are younger than {hours:g} h and stay")
    done = "removed" if delete else "would be removed (--delete does it)"
    console.show(
        f"{len(garbage.objects)} objects and {len(garbage.leftovers)} files left behind, "
        f"{console.size(garbage.bytes)}: {done}"
    )


_RUNS_ROOT = root_option("A folder or s3:// URL that contains runs/.")


@click.command("summary")
@_RUNS_ROOT
@click.option("--output", callback=local_output, help="By default summary.csv or summary.html.")
@click.option(
    "--mode",
    type=click.Choice(("reasoning", "label_only", "both")),
    default="both",
    show_default=True,
    help="Metrics of the student with reasoning, with the label-only prompt, or both.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("csv", "tidy", "html")),
    default="csv",
    show_default=True,
    help="csv: one table each for train, val and test; tidy: one CSV table with a row per run, split and "
    "mode, with intervals, cost, model and commit; html: a page.",
)
def summary(root: str, output: Path | None, mode: Modes, format_: Format) -> None:
    """Put the metrics of all runs under a root into one file."""
    from core.report import plural
    from core.store import Store
    from core.summary.summarize import default_path, save, summarize_runs

    found, text = summarize_runs(Store.at(root), mode, format_)
    for each in found.skipped:
        console.message(f"warning: {each.place}: {each.why}")
    path = save(text, output or default_path(format_)) if found.rows else None
    if path is None:
        console.show(f"no runs with metrics under {root} (in its folder runs/); nothing was written")
    else:
        console.show(f"wrote {path}: {plural(found.runs, 'run')}, {plural(len(found.rows), 'row')}")
    if found.skipped:
        warnings = plural(len(found.skipped), "warning")
        console.show(f"{warnings}: these were skipped, or have empty cells")


@click.command("compare")
@click.argument("a")
@click.argument("b")
@_RUNS_ROOT
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test")),
    default="test",
    show_default=True,
    help="The split to compare.",
)
@click.option(
    "--output",
    callback=local_output,
    help="Folder for comparison.json, changed.csv (all texts that either run gets wrong) and left_out.csv.",
)
def compare(a: str, b: str, root: str, split: SplitName, output: Path | None) -> None:
    """Compare the decisions of run A and run B text by text: fixed, broken, both wrong, both right."""
    from core.store import Store
    from core.summary.run_comparison import compare_runs, lines, read_predictions, write

    store = Store.at(root)
    found = compare_runs(read_predictions(store, a, split), read_predictions(store, b, split))
    for line in lines(found):
        console.show(line)
    for path in write(output, found) if output is not None else ():
        console.show(f"wrote {path}")


_ENGINE = click.option(
    "--engine", "kind", default="tinker", show_default=True, help="Which engine saved them."
)
_SERVER = click.option(
    "--server", default=None, help="The server's address; by default as in a config of the engine."
)


@click.group("checkpoints")
def checkpoints() -> None:
    """List and remove checkpoints on a training server; a Tinker server's key is in TINKER_API_KEY."""


@checkpoints.command("ls")
@_ENGINE
@_SERVER
@click.option("--all", "everything", is_flag=True, help="Those that this project did not name, too.")
def list_checkpoints(kind: str, server: str | None, everything: bool) -> None:
    """List the checkpoints that runs of this project saved, the latest first."""
    with _opened(kind, server) as engine:
        found = [each for each in engine.checkpoints() if everything or each.step is not None]
    if not found:
        console.show("no checkpoints")
        return
    head = ("kind", "step", "size", "created", "expires", "path")
    rows = []
    for each in found:
        step = "-" if each.step is None else str(each.step)
        size = "-" if each.bytes is None else console.size(each.bytes)
        expires = "never" if each.expires is None else f"{each.expires:%Y-%m-%d %H:%M}"
        rows.append((each.kind, step, size, f"{each.created:%Y-%m-%d %H:%M}", expires, each.location))
    console.show_table(head, rows)


@checkpoints.command("rm")
@click.argument("paths", nargs=-1, required=True)
@_ENGINE
@_SERVER
@root_option("The root whose pointers are checked first.")
@click.option("--force", is_flag=True, help="Even if a pointer under the root names it.")
def remove_checkpoints(paths: tuple[str, ...], kind: str, server: str | None, root: str, force: bool) -> None:
    """Remove the checkpoints at PATHS (tinker://...)."""
    from core.errors import UserError
    from core.store import Store, pointers

    store = Store.at(root)
    named = {
        value: name
        for name in pointers.names(store)
        for value in (pointers.read(store, name) or {}).values()
        if isinstance(value, str)
    }
    for path in paths:
        if path in named and not force:
            raise UserError(
                f"{path} is named by model/{named[path]}.json; add --force to remove it all the same"
            )
    with _opened(kind, server) as engine:
        for path in paths:
            engine.remove(path)
            console.show(f"removed {path}")


@contextmanager
def _opened(kind: str, server: str | None) -> Iterator[CheckpointServer]:
    from core.config import ENGINES
    from core.engines import CheckpointServer
    from core.errors import UserError

    engine = ENGINES.get(kind).for_server(server).open("")
    if not isinstance(engine, CheckpointServer):
        raise UserError(f"engine {kind} has no checkpoints on a server")
    engine.require_credentials()
    try:
        yield engine
    finally:
        engine.close()


@click.command("import-config")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", callback=local_output, help="Default: FILE's name, ending in .yaml.")
@click.option(
    "--defaults",
    type=click.Choice(("auto", "old", "new")),
    default="auto",
    show_default=True,
    help="Version of the scripts whose defaults hold for keys that FILE lacks; auto depends on FILE's keys.",
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    help="A run's folder, whose answers and splits are used instead of a teacher.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def import_config(
    file: Path, output: Path | None, defaults: Defaults, answers: Path | None, force: bool
) -> None:
    """Convert FILE, a flat JSON config of the scripts before this project, to a config.

    Keys that are not taken over as they are get listed with the reason.
    """
    from core import durable
    from core.legacy.convert import import_config as converted
    from core.legacy.convert import render

    to = output or Path(f"{file.stem}.yaml")
    if to.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--output {to}: a config is YAML here; give a name that ends in .yaml")
    prompts = to.with_name(f"{to.stem}.prompts.yaml")
    found = converted(file, prompts_file=prompts, defaults=defaults, answers=answers)
    texts = {to: render(found), **({} if found.prompts is None else {prompts: found.prompts})}
    names = " and ".join(str(path) for path in texts)
    existing = [str(path) for path in texts if path.exists()]
    if existing and not force:
        raise ConfigError(f"{' and '.join(existing)} already exists; give another --output, or --force")
    for path, text in texts.items():
        try:
            durable.replace_bytes(path, text.encode())
        except OSError as e:
            raise ConfigError(f"cannot write {path}: {e.strerror or e}; give another --output") from e
    version = "first" if found.version == "old" else "later"
    console.show(
        f"wrote {names}: {found.mapped} of {len(found.settings.given)} keys are taken over; keys that it "
        f"lacks have the defaults of the scripts' {version} version"
    )
    for title, remarks in found.listed():
        console.show(f"{title}:")
        for remark in remarks:
            console.show(f"  {remark}")
    console.show(f"Check {to}, then run: understudy plan {to}")
