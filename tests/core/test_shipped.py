"""Default prompts and prices: a project's own file first, then the one that comes with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import packages
from core.config import PromptsConfig
from core.config.teacher import TeacherConfig
from core.cost import load_prices
from core.engines.tinker.settings import TinkerSettings
from core.errors import ConfigError, PromptError, UserError
from core.prompts import load_prompts

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_of_the_config_are_found_from_any_folder() -> None:
    assert load_prompts(PromptsConfig()).templates["student_user"]
    for named in (TeacherConfig(kind="openai").prices, TinkerSettings().prices):
        assert named == packages.PRICES
        assert load_prices(named).models


@pytest.mark.parametrize("name", ["default", "quickstart", "fpb", "esnli"])
def test_every_prompts_file_of_the_repository_is_found(name: str) -> None:
    found = packages.find_default(f"./prompts//{name}.yaml", "prompts.file")
    assert found.read_bytes() == (REPO / f"prompts/{name}.yaml").read_bytes()


def test_a_projects_own_file_comes_first(here: Path) -> None:
    for name in ("prompts", "configs"):
        (here / name).mkdir()
    assert packages.find_default("prompts/default.yaml", "prompts.file").is_file()
    (here / "prompts/default.yaml").write_text("task_instruction: ours\n")
    with pytest.raises(PromptError, match=rf"{here}/prompts/default.yaml has no teacher_user"):
        load_prompts(PromptsConfig())
    (here / "configs/prices.yaml").write_text("as_of: 2026-11-01\nsource: ours\nmodels: {}\n")
    assert load_prices(packages.PRICES).source == "ours"


@pytest.mark.parametrize(
    "name", ["prompts/none.yaml", "prices.yaml", "configs/quickstart.yaml", "core/errors.py"]
)
def test_nothing_else_is_taken_from_the_package(here: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no price table at {here}/{name}; set teacher.prices"):
        load_prices(name)


def test_a_url_is_no_local_file() -> None:
    with pytest.raises(UserError, match=r"prompts.file: s3://bucket/p.yaml: s3:// cannot be used here"):
        load_prompts(PromptsConfig(file="s3://bucket/p.yaml"))
