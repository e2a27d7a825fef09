"""Parameters of flows: every field of the config, and a trigger's table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.config import Config
from core.config.config import render
from core.config.loading import fields_at, leaves, load
from core.config.section import KeyPath
from core.errors import ConfigError
from flows.runtime import resolved_of, table_slug


@pytest.fixture
def config(project: Path) -> Config:
    return load(project).config


def described(schema: dict[str, Any], key: KeyPath) -> tuple[str, str]:
    """A field's title and description in the schema from which Prefect makes its form."""

    def resolved(at: dict[str, Any]) -> dict[str, Any]:
        at = at.get("allOf", [at])[0]
        while "$ref" in at:
            at = schema["definitions"][at["$ref"].rpartition("/")[2]]
        return at

    at = schema["properties"]["config"]
    for part in key:
        variants = [resolved(each) for each in resolved(at).get("anyOf", [at])]
        # Each engine is a variant; what is not set is one without properties.
        at = next(v for v in variants if part in v.get("properties", {}))["properties"][part]
    return str(at.get("title")), str(at.get("description", ""))


def test_prefects_form_has_every_config_field_with_key_and_description() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.baseline import baseline
    from flows.distill import distill

    for flow in (distill, baseline):
        schema = parameter_schema(flow.fn).model_dump()
        for key in leaves(Config):
            section = fields_at(key[:-1])
            assert section is not None
            assert described(schema, key) == (key[-1], section[key[-1]].description)
        assert "A table instead of data.path" in schema["properties"]["data"]["description"]


def test_a_loaded_config_keeps_the_origins_of_its_values(project: Path) -> None:
    loaded = load(project, ["seed=7"])
    assert resolved_of(loaded.as_parameter()) == loaded
    alone = resolved_of(loaded.config)
    assert set(alone.origins.values()) == {"flow parameter"}
    assert alone.origins.keys() == loaded.origins.keys()
    assert render(alone).count("# flow parameter") > 50


def test_a_triggers_table_has_its_own_run(config: Config) -> None:
    found = resolved_of(config, "s3://bucket/in/Messages 2026.11.csv.gz")
    assert found.run_name == "small-messages-2026"
    assert found.config.data.path == "s3://bucket/in/Messages 2026.11.csv.gz"
    kept = found.config.model_copy(update={"data": config.data, "run": config.run})
    assert kept == config


def test_a_triggers_table_replaces_a_folder_of_tables(project: Path) -> None:
    config = load(project, ["data.path=null", "data.dir=parts"]).config
    assert resolved_of(config, "new.csv").config.data.dir is None


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b.csv", "b"), ("s3://x/Y_1.jsonl.gz", "y-1"), ("folder/", "folder"), ("ä.csv", "data")],
)
def test_the_part_of_a_path_that_names_a_run(path: str, name: str) -> None:
    assert table_slug(path) == name


def test_invalid_parameters_are_one_message(config: Config) -> None:
    nameless = config.model_copy(update={"run": config.run.model_copy(update={"name": None})})
    with pytest.raises(ConfigError, match=r"run\.name is missing"):
        resolved_of(nameless)
    split = config.model_copy(update={"data": config.data.model_copy(update={"sizes": None})})
    with pytest.raises(ConfigError, match=r"flow parameter: data\.sizes"):
        resolved_of(split, "new.csv")
