"""Every key that names a location is checked when a config is loaded, with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml

from core.config import ENGINES, LOCAL, Config, EngineSettings, differences, register_engine
from core.config.loading import fields_at, leaves, load
from core.config.section import location_of
from core.engines import Capabilities, Engine
from core.errors import ConfigError

LOCATIONS = {
    key: location
    for key in leaves(Config)
    if (location := location_of((fields_at(key[:-1]) or {})[key[-1]])) is not None
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(folder: Path, key: tuple[str, ...] = (), value: str | None = None) -> Path:
    """A config file with a location at a key, and what that key needs with it."""
    values: dict[str, Any] = {"data": {"path": "x.csv"}, "teacher": {"answers": "a.jsonl"}}
    if key[:2] in (("data", "dir"), ("data", "files")):
        values["data"] = (
            {"files": dict.fromkeys(("train", "val", "test"), "x.csv")} if key[1] == "files" else {}
        )
    if key[:1] == ("trackers",):
        values["trackers"] = {"mlflow": {}}
    if key[:2] == ("student", "engine"):
        values["student"] = {"engine": {"kind": "tinker"}}
    section = values
    for part in key[:-1]:
        section = section.setdefault(part, {})
    if key:
        section[key[-1]] = value
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def test_engine_settings_and_keys_outside_cache_keys_are_locations() -> None:
    assert len(LOCATIONS) == 17
    assert {
        ("run", "root"),
        ("student", "engine", "local_model"),
        ("trackers", "mlflow", "tracking_uri"),
    } <= set(LOCATIONS)


@pytest.mark.parametrize("value", ["s3:/bucket/x", "s3//bucket/x", "$HOME/x", "${HOME}/x", "C:\\x", "", " x"])
@pytest.mark.parametrize("key", list(LOCATIONS), ids=".".join)
def test_a_misspelled_location_is_rejected_with_file_line_and_key(
    here: Path, key: tuple[str, ...], value: str
) -> None:
    path = config(here, key, value)
    with pytest.raises(ConfigError) as caught:
        load(path)
    written = path.read_text().splitlines()
    line = next(i for i, text in enumerate(written, start=1) if text.strip().startswith(f"{key[-1]}:"))
    if key == ("data", "files", "train"):
        line = 3
    assert str(caught.value).startswith(f"{path}:{line}: {'.'.join(key)}: ")
    assert [p.name for p in here.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize(
    "key", [k for k, location in LOCATIONS.items() if location.schemes is not None], ids=".".join
)
def test_a_url_is_rejected_where_only_local_files_are_read(here: Path, key: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"s3:// cannot be used here; name "):
        load(config(here, key, "s3://bucket/x"))


class Stored(EngineSettings):
    """An engine of another distribution, with a location of its own."""

    weights: Annotated[str, LOCAL] = "weights"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def open(self, model: str) -> Engine:
        raise NotImplementedError


def test_locations_of_a_plug_in_engine_are_checked(here: Path) -> None:
    register_engine("stored")(Stored)
    try:
        with pytest.raises(ConfigError, match=r"student\.engine\.weights: .* name a local path"):
            load(config(here), ["student.engine=stored", "student.engine.weights=s3://bucket/x"])
    finally:
        ENGINES.remove("stored")


def test_misspelled_override_is_reported_as_an_override(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--set: run\.root: 's3:/bucket/x'"):
        load(config(here), ["run.root=s3:/bucket/x"])


def test_model_name_of_a_server_is_not_checked_as_a_path(here: Path) -> None:
    load(config(here), ["student.engine=tinker", "student.model=hub:/org/$model"])
    with pytest.raises(ConfigError, match="not expanded"):
        load(config(here), ["student.engine=tinker", "student.tokenizer=$HOME/x"])


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("rules.dir", "rules", "./rules/"),
        ("data.path", "d/x.csv", "d//x.csv"),
        ("teacher.answers", "runs/x", "runs\\x"),
        ("data.path", "s3://bucket/x.csv", "S3://bucket/x.csv"),
        ("student.model", "/m/x", "file:///m/x"),
    ],
)
def test_spellings_of_one_location_do_not_differ(here: Path, key: str, before: str, after: str) -> None:
    path = config(here)
    first, second = (load(path, [f"{key}={value}"]).config for value in (before, after))
    assert differences(first, second) == []
    assert differences(first, load(path, [f"{key}={after}-2"]).config) != []
