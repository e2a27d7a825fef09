"""Reference pages, generated from the code: commands, config, Python API, parts and report sections."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click
from pydantic import BaseModel

import understudy
from core.config import ENGINES, METRICS, REWARDS, RULES, Config
from core.report.document import SECTIONS
from flows.cli.commands import cli

Schema = Mapping[str, Any]
"""A JSON schema, or a part of one."""
_SKIPPED = ("rule", "kind")
"""Fields that name the part whose settings they are listed with."""


def pages() -> dict[str, str]:
    """Return every generated page by its path below `docs/`."""
    return {
        "reference/cli.md": commands_page(cli, "understudy"),
        "reference/config.md": config_page(Config),
        "reference/python.md": python_page(understudy.__all__),
        "reference/parts.md": parts_page(),
        "reference/report.md": report_page(),
    }


def commands_page(command: click.Command, name: str) -> str:
    """Return the page of a command and its subcommands: usage, help and options of each."""
    return "# Command line\n\n" + "\n".join(_commands(command, click.Context(command, info_name=name)))


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"## {context.command_path}\n\n{inspect.cleandoc(command.help or '')}\n\n```text\n{usage}\n```\n"
    records = [param.get_help_record(context) for param in command.params]
    if rows := [(f"`{record[0]}`", record[1]) for record in records if record and record[1]]:
        yield _table(("option", "meaning"), rows)
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from _commands(child, click.Context(child, context, name))


def config_page(config: type[BaseModel]) -> str:
    """Return the page of all config keys: a table for each section, with type, default and meaning."""
    schema = config.model_json_schema()
    intro = (
        "Every key of a config, with its type, default and meaning. `understudy run CONFIG --set "
        "section.key=value` overrides one. The run folder's `resolved_config.yaml` shows the values used."
    )
    return f"# Config\n\n{intro}\n\n" + "\n".join(_sections(schema, schema, ""))


def _sections(section: Schema, schema: Schema, key: str) -> Iterator[str]:
    """Yield a heading and table for a section of the config, then for each section in it."""
    fields: Schema = section["properties"]
    inner = {name: _models(field, schema) for name, field in fields.items()}
    kind = fields.get("kind", {}).get("const")
    title = f"`{key}`" + (f", kind `{kind}`" if kind else "") if key else "Top level"
    yield f"## {title}\n\n{section.get('description', '')}\n"
    leaves = {name: field for name, field in fields.items() if not inner[name] and name not in _SKIPPED}
    yield _fields(leaves, section.get("required", ()))
    for name, models in inner.items():
        for model in models:
            yield from _sections(model, schema, f"{key}.{name}".lstrip("."))


def _fields(fields: Schema, required: Sequence[str] = ()) -> str:
    """Return a table of fields; empty without any."""
    rows = []
    for name, field in fields.items():
        if name not in _SKIPPED:
            given = "required" if name in required else _value(field["default"]) if "default" in field else ""
            rows.append((f"`{name}`", _type(field), given, " ".join(field.get("description", "").split())))
    return _table(("key", "type", "default", "meaning"), rows) if rows else ""


def _models(field: Schema, schema: Schema) -> list[Schema]:
    """The sections that a field may contain; none for a plain value."""
    options = [field, *field.get("anyOf", ()), *field.get("allOf", ())]
    found = [schema["$defs"][each["$ref"].rsplit("/", 1)[1]] for each in options if "$ref" in each]
    inline = [each for each in options if "properties" in each and "rule" not in each["properties"]]
    return [model for model in [*found, *inline] if "properties" in model]


def _type(field: Schema) -> str:
    """The type of a field in a few words, with the limits of its value."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(option) for option in field["anyOf"]))
    if "enum" in field:
        return ", ".join(_value(value) for value in field["enum"])
    if "const" in field:
        return _value(field["const"])
    kind = str(field.get("type", "value"))
    if kind == "array":
        items = field.get("items") or field.get("prefixItems", [{}])[0]
        return f"list of {_type(items)}"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"mapping to {_type(inner)}" if isinstance(inner, Mapping) else "mapping"
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " ".join([kind, *(f"{sign} {field[name]:g}" for name, sign in limits.items() if name in field)])


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def python_page(names: Sequence[str]) -> str:
    """Return the page of public names of `understudy`, which mkdocstrings fills with their docstrings.

    The keys of Config have a page of their own.
    """
    intro = "Everything that `import understudy` provides. Importing it loads neither torch nor Prefect."
    blocks = "\n".join(
        f"::: understudy.{name}\n" + ("    options: {members: false}\n" if name == "Config" else "")
        for name in sorted(names, key=str.casefold)
    )
    return f"# Python API\n\n{intro}\n\n{blocks}"


def parts_page() -> str:
    """Return the page of registered parts: rejection rules, metrics, rewards and engines."""
    rules = "\n".join(
        f"### `{name}`\n\n{inspect.getdoc(rule)}\n\n{_fields(rule.model_json_schema()['properties'])}"
        for name, rule in RULES.items()
    )
    metrics = [
        (f"`{name}`", metric.title, metric.better, _doc(metric.function), metric.undefined)
        for name, metric in METRICS.items()
    ]
    rewards = [(f"`{name}`", f"{each.weight:g}", _doc(each.function)) for name, each in REWARDS.items()]
    engines = [(f"`{name}`", _doc(settings)) for name, settings in ENGINES.items()]
    return "\n".join(
        [
            "# Rules, metrics, rewards, engines\n\n[Contributing](../../CONTRIBUTING.md#add-a-part) shows "
            "how to add a part.\n",
            "## Rejection rules\n\nNamed in `rejection.rules`, in order, with settings or without: "
            "`[unparsed, {rule: too_short, min_chars: 20}]`.\n",
            rules,
            "## Metrics\n\nEvery report has all of them; `evaluation.metric` selects the checkpoint.\n",
            _table(("metric", "name in reports", "better", "meaning", "undefined if"), metrics),
            "## Rewards\n\nWeighted by `reinforce.rewards`.\n",
            _table(("reward", "default weight", "meaning"), rewards),
            "## Engines\n\nSelected by `student.engine.kind`; [Config](config.md) lists their settings.\n",
            _table(("engine", "meaning"), engines),
        ]
    )


def report_page() -> str:
    """Return the page of report sections, in the order in which a report shows them."""
    ordered = sorted(SECTIONS.items(), key=lambda item: item[1][0])
    rows = [(str(order), name, _doc(build)) for name, (order, build) in ordered]
    intro = (
        "Sections of `report.html` and `test_report.md`, in order. A section without content is left out; "
        "one that fails is listed in the report and does not stop the run."
    )
    return f"# Report sections\n\n{intro}\n\n" + _table(("order", "section", "content"), rows)


def _doc(part: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(part) or "").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    """Text on one line without HTML; in code, between backticks, characters are literal anyway."""
    parts = " ".join(text.split()).split("`")
    parts[::2] = [part.replace("|", "&#124;").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)
