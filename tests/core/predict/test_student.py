"""A loaded student gives the predictions that were measured."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from core import jsonio
from core.durable import user_cache
from core.errors import MissingInputError, ModelError, UserError
from core.evaluation.predictions import SCORES, Predictions, optional
from core.export.bundle import FILE, Bundle, read_contents
from core.predict import Student, load
from core.predict.loaded_student import find
from core.records import read_examples
from core.store import Store, pointers
from tests.core.pipeline.making import Made
from tests.forking import kill, was_killed


def test_predictions_and_errors_equal_the_exported_ones(made: Made, student: Student) -> None:
    examples = read_examples(made.store.folder(made.manifests["split"]) / "test.csv")
    scored = Predictions.read(made.store.folder(made.manifests["export/student/test/reasoning"]) / SCORES)
    said = student([e.text for e in examples])
    assert [p.error is None for p in said] == (~scored.invalid).tolist()
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
    assert student(["prize " * 300])[0].cut_tokens > 0


def test_no_texts_give_no_predictions(student: Student) -> None:
    assert student([]) == []


def test_a_text_that_is_in_no_list_is_refused(student: Student) -> None:
    with pytest.raises(UserError, match="put it in a list"):
        student("You have won")


def test_a_label_only_student_refuses_to_give_reasoning(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student.bundle.encoder, "target", "label_only")
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


def test_a_name_is_a_folder_only_where_it_holds_a_bundle(made: Made, bundle: Path, folder: Path) -> None:
    root = made.store.backend.url
    publish(made)
    (folder / "small").mkdir()
    assert find("small", root) == bundle
    shutil.copy(bundle / FILE, folder / "small")
    assert find("small", root) == find("./small/", root) == folder / "small"


def test_a_pointer_to_a_damaged_bundle_names_it(made: Made, bundle: Path, folder: Path) -> None:
    store = Store.open(str(folder / "root"))
    part = store.begin("bundle", "k")
    shutil.copytree(bundle, part / "bundle")
    manifest = store.commit("bundle", "k", part, {}, {})
    content = {"saved_at": "now", "run_name": "mine", "bundle_path": f"{manifest.folder}/bundle"}
    pointers.publish(store, "mine", content, [manifest.folder])
    found = find("mine", "root")
    assert found == part / "bundle"
    (found / "decision.json").write_text("{}")
    with pytest.raises(MissingInputError, match=r"model/mine\.json names is missing or damaged"):
        find("mine", "root")


@pytest.fixture
def remote(bundle: Path, folder: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """A file system with the bundle at memory://bundles/small."""
    memory = fsspec.filesystem("memory")
    memory.put(f"{bundle}/", "/bundles/small", recursive=True)
    yield memory
    memory.rm("/bundles", recursive=True)


def kept() -> list[str]:
    """What the user's cache has of bundles, locks aside."""
    return [path.name for path in (user_cache() / "bundles").iterdir() if path.suffix != ".lock"]


def test_a_bundle_at_a_url_is_fetched_once_and_answers(
    made: Made, opened: Bundle, remote: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder)  # the base model is at a relative path
    with load("memory://bundles/small/", device="cpu", threads=1) as student:
        assert student(["a text"])[0].label in ("0", "1")
    for name in opened.contents.files:
        remote.rm(f"/bundles/small/{name}")
    found = find("memory://bundles/small")
    assert found.parent == user_cache() / "bundles"
    assert read_contents(found) == opened.contents
    assert len(kept()) == 1


def test_two_that_fetch_at_once_get_one_whole_copy(opened: Bundle, remote: fsspec.AbstractFileSystem) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(find, ["memory://bundles/small"] * 2)
    assert one == other
    copied = {p.relative_to(one).as_posix() for p in one.rglob("*") if p.is_file()}
    assert copied == {*opened.contents.files, FILE}
    assert kept() == [one.name]


def test_what_a_killed_copy_left_is_removed(remote: fsspec.AbstractFileSystem) -> None:
    memory, calls = type(remote), list[str]()
    get_file = memory.get_file

    def killing(self: Any, rpath: str, *arguments: Any, **named: Any) -> None:
        calls.append(rpath)
        if len(calls) == 3:
            kill()
        get_file(self, rpath, *arguments, **named)

    def fetch() -> None:
        memory.get_file = killing  # in the child alone
        find("memory://bundles/small")

    assert was_killed(fetch)
    (left,) = kept()
    assert left.startswith(".part-")
    found = find("memory://bundles/small")
    assert kept() == [found.name]


@pytest.mark.parametrize(
    "name", ["adapter/adapter_model.safetensors", "decision.json", "tokenizer/tokenizer.json"]
)
def test_a_damaged_bundle_at_a_url_is_refused_and_can_be_repaired_there(
    remote: fsspec.AbstractFileSystem, name: str
) -> None:
    place = f"/bundles/small/{name}"
    sound = remote.cat_file(place)
    remote.pipe(place, sound[:-1] + bytes([sound[-1] ^ 1]))
    with pytest.raises(ModelError, match=f"memory://bundles/small/{name} was altered"):
        find("memory://bundles/small")
    remote.rm(place)
    with pytest.raises(ModelError, match=f"memory://bundles/small/{name} is missing"):
        find("memory://bundles/small")
    assert kept() == []
    remote.pipe(place, sound)
    assert find("memory://bundles/small").is_dir()


@pytest.mark.parametrize("name", ["../../outside", "/outside", "adapter/../../outside"])
def test_a_bundle_at_a_url_writes_nothing_outside_its_copy(
    opened: Bundle, remote: fsspec.AbstractFileSystem, folder: Path, name: str
) -> None:
    before = sorted(folder.parent.rglob("*"))
    contents = opened.contents.to_json()
    contents["files"][name] = jsonio.digest("x")
    remote.pipe("/bundles/small/bundle.json", jsonio.canonical(contents))
    with pytest.raises(ModelError, match=r"memory://bundles/small/bundle\.json is damaged.*outside"):
        find("memory://bundles/small")
    assert sorted(folder.parent.rglob("*")) == before
