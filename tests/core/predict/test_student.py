"""A loaded student gives the predictions that were measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core import jsonio
from core.errors import MissingInputError, ModelError, UserError
from core.evaluation.predictions import SCORES, Predictions, optional
from core.export.bundle import open_bundle
from core.predict import Student, load
from core.predict.loaded_student import find
from core.records import read_examples
from core.store import pointers
from tests.core.pipeline.making import Made


def test_predictions_equal_the_exported_ones(made: Made, student: Student) -> None:
    examples = read_examples(made.store.folder(made.manifests["split"]) / "test.csv")
    scored = Predictions.read(made.store.folder(made.manifests["export/student/test/reasoning"]) / SCORES)
    said = student([e.text for e in examples])
    assert [p.probability for p in said] == pytest.approx(scored.probability.tolist(), abs=1e-6)
    predicted = student.bundle.decision.predicted(scored)
    assert predicted is not None
    assert [p.label for p in said] == ["1" if positive else "0" for positive in predicted]


def scored(p: float | None, off_label_mass: float) -> Predictions:
    return Predictions.of(["0"], [np.nan if p is None else p], off_label_mass=off_label_mass)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (scored(0.9, 0.5), None),
        (scored(0.9, 0.501), "50.1% of the probability is on neither label"),
        (scored(0.001, 0.97), "97.0% of the probability is on neither label"),
        (scored(None, 1.0), "no label was reached"),
    ],
)
def test_an_invalid_row_has_its_prediction_and_an_error(
    student: Student, row: Predictions, says: str | None
) -> None:
    (found,) = student.predictions(row, reasoning=False)
    assert found.probability == optional(row.probability[0])
    assert found.label == ("1" if np.asarray(student.bundle.decision.predicted(row))[0] else "0")
    assert (found.error is None) is not bool(row.invalid[0])
    assert says is None or (found.error or "").startswith(says)


def test_the_same_rows_have_errors_as_in_the_export(made: Made, student: Student) -> None:
    examples = read_examples(made.store.folder(made.manifests["split"]) / "test.csv")
    scored = Predictions.read(made.store.folder(made.manifests["export/student/test/reasoning"]) / SCORES)
    said = student([e.text for e in examples])
    assert [p.error is None for p in said] == (~scored.invalid).tolist()


@pytest.mark.parametrize("near", [0, -1, 1])
def test_a_float32_score_at_the_threshold_has_the_label_of_evaluations(student: Student, near: int) -> None:
    threshold = student.bundle.decision.threshold or 0.0
    score = np.nextafter(np.float32(threshold), np.float32(2 * near * threshold or threshold))
    row = scored(float(score), 0.1)
    (found,) = student.predictions(row, reasoning=False)
    assert type(found.probability) is float
    expected = np.asarray(student.bundle.decision.predicted(row))[0]
    assert found.label == ("1" if expected else "0")
    assert bool(expected) is (float(score) >= threshold)


def test_predictions_are_independent_of_order_and_batch(student: Student) -> None:
    texts = ["You have won a prize", "See you at lunch", "Call now for a gift"]
    alone = [student([text])[0].probability for text in texts]
    assert [p.probability for p in student(texts[::-1])][::-1] == pytest.approx(alone, abs=1e-6)


def test_reasoning_is_generated_only_if_requested(student: Student) -> None:
    text = "You have won a prize, call now"
    quick, slow = student([text])[0], student([text], reasoning=True)[0]
    assert quick.reasoning is None
    assert quick.probability == pytest.approx(slow.probability, abs=1e-6)


def test_tokens_that_do_not_fit_are_counted(student: Student) -> None:
    assert student(["prize " * 1000])[0].cut_tokens > 0


def test_no_texts_give_no_predictions(student: Student) -> None:
    assert student([]) == []


def test_a_label_only_student_refuses_to_give_reasoning(bundle: Path, student: Student) -> None:
    student.bundle.encoder.target = "label_only"
    with pytest.raises(UserError, match="gives no reasoning"):
        student(["a text"], reasoning=True)


def publish(made: Made, **more: object) -> None:
    """Publish a pointer to the small project's bundle."""
    manifest = made.manifests["bundle"]
    content = {"saved_at": "now", "run_name": "small", "bundle_path": f"{manifest.folder}/bundle", **more}
    pointers.publish(made.store, "small", content, [manifest.folder])


def test_a_published_run_is_found_by_name_and_as_latest(made: Made, bundle: Path) -> None:
    publish(made)
    root = made.store.backend.url
    assert find("small", root) == find("latest", root) == bundle


def test_the_error_for_a_pointer_without_a_bundle_has_the_remedy(made: Made) -> None:
    publish(made, bundle_path=None)
    with pytest.raises(MissingInputError, match="run the same config again"):
        find("latest", made.store.backend.url)
    publish(made)


@pytest.mark.parametrize("model", ["nobody", "no/such/folder", "memory://nothing/here"])
def test_a_missing_model_is_named(made: Made, model: str) -> None:
    with pytest.raises(MissingInputError, match=model.rpartition("/")[2]):
        find(model, made.store.backend.url)


def test_a_bundle_at_a_url_is_fetched_once_and_checked(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    fs.put(str(bundle) + "/", "/bundles/small", recursive=True)
    with load("memory://bundles/small", device="cpu", threads=1) as student:
        assert student(["a text"])[0].label in ("0", "1")
    fs.rm("/bundles/small/adapter", recursive=True)
    assert open_bundle(find("memory://bundles/small")).contents == open_bundle(bundle).contents
    written = jsonio.read_json(bundle / "bundle.json")
    fs.pipe("/bundles/small/bundle.json", jsonio.canonical({**written, "max_new_tokens": 9}))
    with pytest.raises(ModelError, match="is missing"):
        find("memory://bundles/small")
