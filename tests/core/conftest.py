"""The small project with all its stages built, once for all tests that read it."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from core.export.bundle import Bundle, open_bundle
from core.export.stage import BUNDLE
from tests.conftest import AnsweringModel, filled_once
from tests.core.pipeline.making import Made, make_all, write_small_project


@pytest.fixture(scope="session")
def whole(
    tiny_model: Path, answering_model: AnsweringModel, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Every stage of the small project, built once. Do not change its files."""
    made: list[Made] = []

    def fill(folder: Path) -> None:
        with chdir(folder):
            config = write_small_project(folder.resolve(), tiny_model, answering_model("label_only"))
            made.append(make_all(config))

    folder = filled_once(tmp_path_factory, "small-project", fill).resolve()
    if made:
        return made[0]
    with chdir(folder):
        return make_all(folder / "small.yaml")  # reuses the stages that another test process built


@pytest.fixture
def made(whole: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The same, with the project's folder as the working directory."""
    monkeypatch.chdir(whole.folder)
    return whole


@pytest.fixture
def bundle(made: Made) -> Path:
    """The small project's bundle. Do not change it."""
    return made.store.folder(made.manifests["bundle"]) / BUNDLE


@pytest.fixture(scope="module")
def opened(whole: Made) -> Bundle:
    """The same bundle with its prompt and decision, opened once; nobody may change it."""
    return open_bundle(whole.store.folder(whole.manifests["bundle"]) / BUNDLE)
