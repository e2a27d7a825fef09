"""Files inside packages by URL, and the default prompts and prices: a project's own file first."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import locations
from core.config import PromptsConfig, TeacherConfig
from core.cost import load_prices
from core.engines.tinker import TinkerSettings
from core.errors import ConfigError, PromptError, UserError
from core.prompts import load_prompts

LISTED = "package://click/click/__init__.py"


def test_package_file_is_found_without_importing_the_package() -> None:
    assert locations.packaged_path(LISTED).read_bytes()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "package://no-such-thing/a.csv",
            "package://no-such-thing/a.csv: the distribution no-such-thing is not installed; "
            "correct the setting that names it",
        ),
        (
            "package://clik/click/__init__.py",
            "package://clik/click/__init__.py: the distribution clik is not installed (near it: click",
        ),
        ("package:///a.csv", "package:///a.csv names no file of a package; write package://<distribution>/"),
        ("package://click", "package://click names no file of a package; write package://<distribution>/"),
        (
            "package://click/click/__init_.py",
            "package://click/click/__init_.py: the package click lists no file "
            "'click/__init_.py'; near it: click/__init__.py",
        ),
    ],
)
def test_missing_package_files_are_reported_with_a_remedy(url: str, sentence: str) -> None:
    with pytest.raises(UserError) as e:
        locations.packaged_path(url)
    assert str(e.value).startswith(sentence)


REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_default_files_are_found_from_any_folder() -> None:
    assert load_prompts(PromptsConfig()).templates["student_user"]
    for named in (TeacherConfig(kind="openai").prices, TinkerSettings().prices):
        assert named == locations.DEFAULT_PRICES
        assert load_prices(named).models


@pytest.mark.parametrize("name", ["default", "reviews", "sms", "fpb", "esnli"])
def test_every_prompts_file_of_the_repository_is_found(name: str) -> None:
    found = locations.default_file(f"./prompts//{name}.yaml", "prompts.file")
    assert found.read_bytes() == (REPO / f"prompts/{name}.yaml").read_bytes()


def test_project_file_takes_precedence_over_the_default(here: Path) -> None:
    for name in ("prompts", "configs"):
        (here / name).mkdir()
    assert locations.default_file("prompts/default.yaml", "prompts.file").is_file()
    (here / "prompts/default.yaml").write_text("task_instruction: ours\n")
    with pytest.raises(PromptError, match=rf"{here}/prompts/default.yaml has no teacher_user"):
        load_prompts(PromptsConfig())
    (here / "configs/prices.yaml").write_text("as_of: 2026-11-01\nsource: ours\nmodels: {}\n")
    assert load_prices(locations.DEFAULT_PRICES).source == "ours"


@pytest.mark.parametrize(
    "name", ["prompts/none.yaml", "prices.yaml", "configs/quickstart.yaml", "core/errors.py"]
)
def test_only_default_files_are_taken_from_the_package(here: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no price table at {here}/{name}; set teacher.prices"):
        load_prices(name)


def test_url_is_not_a_local_file() -> None:
    with pytest.raises(UserError, match=r"prompts.file: s3://bucket/p.yaml: s3:// cannot be used here"):
        load_prompts(PromptsConfig(file="s3://bucket/p.yaml"))
