"""`understudy import-config`: convert a config of the earlier scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import ConfigError
from flows.cli import console
from flows.cli.options import local_output

if TYPE_CHECKING:
    from core.legacy.importing import Defaults


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
    from core import files
    from core.legacy.importing import import_config as converted
    from core.legacy.importing import render

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
            files.replace_bytes(path, text.encode())
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
