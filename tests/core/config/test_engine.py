"""`student.engine`: a name or a mapping selects a registered engine, whose settings are checked strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import ENGINES, ResolvedConfig, StudentConfig, differences, key_fields
from core.config.config import render
from core.config.loading import parse_source, resolve
from core.config.student import MOVED
from core.engines.local import LocalSettings
from core.engines.tinker import TinkerSettings
from core.errors import ConfigError

MINIMAL = "run: {name: r}\ndata: {path: texts.csv}\nteacher: {answers: answers.jsonl}\n"


def config(student: str = "", *overrides: str) -> ResolvedConfig:
    path = Path("small.yaml")
    return resolve(path, parse_source(path, MINIMAL + student), overrides)


@pytest.mark.parametrize(
    ("student", "overrides", "engine"),
    [
        ("", [], LocalSettings()),
        ("student: {engine: tinker}", [], TinkerSettings()),
        ("student: {engine: {threads: 2}}", [], LocalSettings(threads=2)),
        ("student: {engine: {kind: tinker, overlap: false}}", [], TinkerSettings(overlap=False)),
        ("student: {engine: {device: cpu}}", ["student.engine=tinker"], TinkerSettings()),
        ("", ["student.engine=tinker", "student.engine.prices=null"], TinkerSettings(prices=None)),
        ("student: {engine: tinker}", ["student.engine.prices=null"], TinkerSettings(prices=None)),
    ],
)
def test_a_name_or_a_mapping_selects_an_engine(student: str, overrides: list[str], engine: object) -> None:
    assert config(student, *overrides).config.student.engine == engine


@pytest.mark.parametrize(
    ("student", "error"),
    [
        (
            "student: {engine: tinkr}",
            r"student\.engine: no engine is called 'tinkr'; did you mean 'tinker'\?",
        ),
        (
            "student:\n  engine: {devise: cpu}",
            r"small\.yaml:5: student\.engine\.devise .* did you mean device",
        ),
        ("student: {engine: {overlap: true}}", r"engine\.overlap is not a key of this engine; tinker has it"),
        ("student: {engine: {threads: '2'}}", r"student\.engine\.threads: should be a valid integer"),
        ("student: {engine: {threads: 0}}", r"student\.engine\.threads: .*greater than or equal to 1"),
    ],
)
def test_engine_error_names_the_key_and_the_nearest_name(student: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        config(student)


@pytest.mark.parametrize("old", MOVED)
def test_key_of_version_01_is_an_error_that_names_the_new_key(old: str) -> None:
    with pytest.raises(ConfigError, match=rf"student\.{old} .* moved to student\.engine\.{MOVED[old]}$"):
        config("", f"student.{old}=1")


def test_override_cannot_discard_an_earlier_override() -> None:
    with pytest.raises(
        ConfigError, match=r"--set student\.engine would discard --set student\.engine\.prices"
    ):
        config("", "student.engine.prices=null", "student.engine=tinker")


def test_rendered_config_loads_to_the_same_engine() -> None:
    resolved = config("student: {engine: {kind: tinker, overlap: false}}")
    assert resolved.origins["student", "engine", "overlap"] == "small.yaml:4"
    text = render(resolved)
    again = resolve(Path("again.yaml"), parse_source(Path("again.yaml"), text))
    assert again.config.student.engine == resolved.config.student.engine
    assert differences(again.config, resolved.config) == []


def test_another_engine_is_listed_as_a_difference() -> None:
    found = differences(config().config, config("student: {engine: tinker}").config)
    assert "student.engine.kind: local -> tinker" in found


def test_settings_for_training_only_do_not_change_score_keys() -> None:
    one, other = LocalSettings(train_dtype="float32", threads=2), LocalSettings(threads=2)
    assert key_fields(one) != key_fields(other)
    assert one.for_sampling() == other.for_sampling()


def test_json_schema_has_one_variant_per_engine() -> None:
    schema = StudentConfig.model_json_schema()["properties"]["engine"]
    assert [variant["title"] for variant in schema["anyOf"]] == list(ENGINES)
    assert schema["default"] == {"kind": "local"}
