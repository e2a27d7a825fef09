"""The small project with all its stages made, once for all that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.export.stage import BUNDLE
from tests.conftest import AnsweringModel
from tests.core.pipeline.making import Made, make_all, write_small_project


@pytest.fixture(scope="session")
def whole(
    tiny_model: Path, answering_model: AnsweringModel, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Every stage of the small project, made once. Nobody may change its files."""
    folder = tmp_path_factory.mktemp("small-project").resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return make_all(write_small_project(folder, tiny_model, answering_model("label_only")))


@pytest.fixture
def made(whole: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The same, with the project's folder as the working directory."""
    monkeypatch.chdir(whole.folder)
    return whole


@pytest.fixture
def bundle(made: Made) -> Path:
    """The small project's bundle; nobody may change it."""
    return made.store.folder(made.manifests["bundle"]) / BUNDLE
