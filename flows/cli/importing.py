"""`understudy import-config`: the predecessor's JSON config as one of ours, with a list of what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import ConfigError
from flows.cli import saying
from flows.cli.locating import local_output

if TYPE_CHECKING:
    from core.legacy.importing import Defaults, Imported


@click.command("import-config")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", callback=local_output, help="By default FILE's name, ending in .yaml.")
@click.option(
    "--defaults",
    type=click.Choice(("auto", "old", "new")),
    default="auto",
    show_default=True,
    help="Of which of the predecessor's versions, for keys that FILE lacks; auto goes by the keys it has.",
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    help="A run's folder: its answers and splits are taken, and no teacher is asked.",
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
def import_config(
    file: Path, output: Path | None, defaults: Defaults, answers: Path | None, force: bool
) -> None:
    """Turn FILE, a flat JSON config of the scripts before this project, into a config.

    What it says and what the written file does not say is listed, with the reason.
    """
    from core.legacy.importing import import_config as imported
    from core.legacy.writing import render

    to = output or Path(f"{file.stem}.yaml")
    if to.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--output {to}: a config is YAML here; give a name that ends in .yaml")
    prompts = to.with_name(f"{to.stem}.prompts.yaml")
    found = imported(file, prompts_file=prompts, defaults=defaults, answers=answers)
    texts = {to: render(found), **({prompts: found.prompts} if found.prompts is not None else {})}
    _save(texts, force=force)
    for line in _told(found, list(texts)):
        saying.show(line)


def _save(texts: dict[Path, str], *, force: bool) -> None:
    from core import files

    there = [str(path) for path in texts if path.exists()]
    if there and not force:
        raise ConfigError(f"{' and '.join(there)} is there already; give another --output, or say --force")
    for path, text in texts.items():
        try:
            files.replace_bytes(path, text.encode())
        except OSError as e:
            raise ConfigError(f"cannot write {path}: {e.strerror or e}; give another --output") from e


def _told(found: Imported, paths: list[Path]) -> Iterator[str]:
    from core.legacy.writing import grouped, said

    keys = len(found.flat.values)
    yield (
        f"wrote {' and '.join(map(str, paths))}: {found.mapped} of {keys} keys are taken over; what the file "
        f"does not say is as in the predecessor's {'first' if found.version == 'old' else 'later'} version"
    )
    for title, remarks in grouped(found).items():
        yield f"{title}:"
        yield from (f"  {said(remark)}" for remark in remarks)
    yield f"Look at {paths[0]}, then: understudy plan {paths[0]}"
