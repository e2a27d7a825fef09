"""A baseline of a finished run can be published, answers as it was measured, and gives way to its student."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from core.errors import MissingInputError, ModelError, UserError
from core.evaluation.predictions import Predictions
from core.export.bundle import MODEL, open_any
from core.export.run_files import read_start
from core.pipeline.publishing import publish_scorer
from core.predict import load
from core.predict.loaded_student import LoadedBaseline, Student
from core.records import read_examples
from core.store import RunView, Store, pointers
from core.summary.run_records import list_runs
from tests.pipeline.running import ONE_PROMPT, run
from tests.small_project import write_project


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The root of a finished run, small."""
    folder = tmp_path_factory.mktemp("published")
    with chdir(folder):
        run(write_project(folder, tiny_model), *ONE_PROMPT)
    return folder / "out"


def publish(root: Path, scorer: str) -> list[str]:
    return publish_scorer("small", scorer, str(root))


def test_a_published_baseline_answers_as_it_was_measured(root: Path) -> None:
    paths = publish(root, "tfidf_chars")
    assert [Path(path).name for path in paths] == ["small.json", "latest.json"]
    view = RunView(Store.at(str(root)), "small")
    fitted = view.earlier("baseline", file="")
    test = read_examples(view.store.file(view.earlier("split", file=""), "test.csv"))
    measured = Predictions.read(view.store.file(fitted, "tfidf_chars_test.jsonl"))
    with load("small", str(root)) as model:
        assert isinstance(model, LoadedBaseline)
        answers = model([e.text for e in test])
        calibrated = model.decision.calibrated(measured).probability.tolist()
        assert [a.probability for a in answers] == pytest.approx(calibrated, abs=1e-12)
        decided = model.decision.predicted(measured)
        assert decided is not None
        assert [a.label for a in answers] == [model.labels.written(int(label)) for label in decided]
        assert {a.error for a in answers} == {None}
        assert model([]) == []
        with pytest.raises(UserError, match="gives no reasoning"):
            model(["a"], reasoning=True)


def test_its_pointer_names_no_adapter_and_keeps_its_history(root: Path) -> None:
    store = Store.at(str(root))
    publish(root, "tfidf_words")
    found = dict(pointers.read(store, "latest") or {})
    assert found["scorer"] == "tfidf_words"
    assert {"best_model_path", "engine", "base_model"} & set(found) == set()
    assert found["run_dir"] == "runs/small"
    assert len(found["history"]) >= 2
    assert (root / found["bundle_path"] / "bundle.json").is_file()
    assert (root / "runs/small/baseline_phase/tfidf_words/bundle/README.md").is_file()
    (entry,) = list_runs(store)
    assert entry.latest
    with pytest.raises(UserError, match=r"baseline \(tfidf_words\), which cannot be reinforced"):
        read_start(store, "small")


def test_the_student_is_published_again(root: Path) -> None:
    publish(root, "tfidf_chars")
    publish(root, "student")
    found = dict(pointers.read(Store.at(str(root)), "small") or {})
    assert "scorer" not in found
    assert found["best_step"] == json.loads((root / "runs/small/run_summary.json").read_text())["best_step"]
    with load("small", str(root)) as model:
        assert isinstance(model, Student)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_an_altered_model_is_refused_by_name(root: Path, tmp_path: Path, name: str) -> None:
    publish(root, "tfidf_chars")
    bundle = Path(shutil.copytree(root / "runs/small/baseline_phase/tfidf_chars/bundle", tmp_path / "bundle"))
    open_any(bundle)
    (bundle / MODEL / name).chmod(0o644)
    (bundle / MODEL / name).write_bytes((bundle / MODEL / name).read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=rf"model/{name} was altered"):
        open_any(bundle)


@pytest.mark.parametrize(
    ("run_name", "scorer", "what"),
    [
        ("small", "majority", "unknown scorer"),
        ("small", "svm", "unknown scorer"),
        ("small", "embedding", "no fitted Sentence embeddings"),
        ("other", "student", "run other does not exist"),
    ],
)
def test_what_cannot_be_published_is_refused_and_changes_no_pointer(
    root: Path, run_name: str, scorer: str, what: str
) -> None:
    before = dict(pointers.read(Store.at(str(root)), "latest") or {})
    with pytest.raises((UserError, MissingInputError), match=what):
        publish_scorer(run_name, scorer, str(root))
    assert pointers.read(Store.at(str(root)), "latest") == before
