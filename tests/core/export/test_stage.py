"""A bundle gives the student's answers, and altered bundles are refused."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import PromptsConfig, StudentConfig
from core.engines import Sampler
from core.errors import ModelError, Part, PartFailed
from core.evaluation.predictions import SCORES, Predictions
from core.evaluation.student_scores import ScoreSettings, score_texts
from core.export import stage
from core.export.bundle import Bundle, check_first_version, open_bundle
from core.export.stage import BUNDLE, BundleSettings
from core.progress import Silent
from core.prompts import load_prompts
from core.records import read_examples
from core.stage import StageIO
from core.student.encode_stage import EncodeStageSettings, encode
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer
from tests.core.pipeline.making import Made, context
from tests.core.student.template_shapes import SHAPES, Shape


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the small project's bundle."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def rewritten(made: Made, out: Path, encoded: Path | None = None, **changes: Any) -> Path:
    """Write the bundle again with other settings, or for other encoded answers."""
    call = made.stages["bundle"]
    inputs = {name: made.store.folder(m) for name, m in call.inputs.items()}
    inputs |= {} if encoded is None else {"encoded": encoded}
    settings: BundleSettings = call.settings.model_copy(update=changes)
    stage.bundle(settings, StageIO(inputs, out, run=call.context))
    return out / BUNDLE


def probabilities(made: Made, opened: Bundle, sampler: Sampler) -> list[float]:
    """The probabilities of a bundle on val of the small project."""
    examples = read_examples(made.store.folder(made.manifests["split"]) / "val.csv")
    settings = ScoreSettings(opened.contents.max_new_tokens)
    ids, texts = zip(*((e.id, e.text) for e in examples), strict=True)
    scored = score_texts(sampler, opened.encoder, ids, texts, settings, Silent())
    return [float(p) for p in scored.probability]


def exported(made: Made) -> list[float]:
    """The student's probabilities on the same rows when it was evaluated."""
    scored = Predictions.read(made.store.folder(made.manifests["evaluate/6"]) / SCORES)
    return [float(p) for p in scored.probability]


def test_a_moved_bundle_gives_the_same_probabilities(made: Made, copied: Path) -> None:
    opened = open_bundle(copied)
    found = probabilities(made, opened, opened.sampler("adapter"))
    assert found == pytest.approx(exported(made), abs=1e-6)


def test_merged_weights_need_no_base_model(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rewritten(made, tmp_path, merged="float32")
    monkeypatch.chdir(tmp_path)  # where the base model's relative path leads nowhere
    opened = open_bundle(folder)
    found = probabilities(made, opened, opened.sampler("merged"))
    assert found == pytest.approx(exported(made), abs=1e-4)
    with pytest.raises(ModelError, match="or use the bundle's own weights with --weights merged"):
        opened.sampler("adapter")


def test_parity_has_the_differences_of_reloaded_and_merged_weights(made: Made, tmp_path: Path) -> None:
    folder = rewritten(made, tmp_path, merged="bfloat16", parity_rows=4)
    parity = jsonio.read_json(folder / "parity.json")
    assert parity["against"] == "trained"
    assert parity["reloaded"]["rows"] == parity["merged"]["rows"] == 4
    assert 0 <= parity["reloaded"]["largest"] < 1e-4 < parity["merged"]["largest"]


def test_a_bundle_contains_no_text_of_the_data(bundle: Path) -> None:
    words = "bring the papers"
    held = [p for p in bundle.rglob("*") if p.is_file() and words.encode() in p.read_bytes()]
    assert held == []


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a function that replaces text in a file of a bundle."""

    def spoil(folder: Path) -> None:
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


def consistent(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a function that also updates the file's digest in bundle.json."""

    def spoil(folder: Path) -> None:
        change(name, old, new)(folder)
        written = jsonio.read_json(folder / "bundle.json")
        written["files"][name] = jsonio.file_digest(folder / name)
        jsonio.write_json(folder / "bundle.json", written)

    return spoil


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    ("another prompt", consistent("prompts.yaml", "You judge", "You read"), "prompt of the bundle"),
    ("another template", consistent("tokenizer/chat_template.jinja", "{", " {"), "tokenizer of the bundle"),
    ("one file more", lambda f: (f / "tokenizer/vocab.txt").write_text("x"), "tokenizer of the bundle"),
]


@pytest.mark.parametrize(("spoil", "said"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_loading_refuses_altered_bundles(copied: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(copied)
    with pytest.raises(ModelError, match=said):
        open_bundle(copied)


def test_another_base_model_is_refused(made: Made, opened: Bundle, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made.folder / "model", tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(ModelError, match="is not the one that the bundle was trained on"):
        opened.sampler("adapter", base=str(other))


def test_missing_weights_are_refused(opened: Bundle) -> None:
    with pytest.raises(ModelError, match="no merged weights"):
        opened.sampler("merged")
    with pytest.raises(ModelError, match="no server has the weights"):
        opened.sampler("server")


def test_the_card_has_the_number_of_answers_trained_on(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five answers exceed student.max_length, so the encode stage drops them."""
    monkeypatch.chdir(made.folder)
    rows = list(jsonio.read_jsonl(made.store.folder(made.manifests["reject"]) / "accepted_samples.jsonl"))
    for row in rows[:5]:
        row["reasoning"] *= 40
    jsonio.write_jsonl(tmp_path / "accepted_samples.jsonl", rows)
    (tmp_path / "encoded").mkdir()
    of = context(made.config)
    settings = EncodeStageSettings.for_training(of.config.student, of.config.seed)
    summary = encode(settings, StageIO({"reject": tmp_path}, tmp_path / "encoded", run=of))
    assert (summary["examples"], summary["dropped"]) == (len(rows) - 5, 5)
    card = (rewritten(made, tmp_path / "out", encoded=tmp_path / "encoded") / "README.md").read_text()
    assert f"learned from {len(rows) - 5} answers of the teacher" in card
    assert f"5 of {len(rows)} accepted answers were not trained on: " in card
    whole = rewritten(made, tmp_path / "whole") / "README.md"
    assert f"learned from {len(rows)} answers of the teacher" in whole.read_text()
    assert "not trained on" not in whole.read_text()


def out_of_space(*arguments: object, **settings: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_failing_merged_weights_are_named_and_can_be_left_out(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "write_merged", out_of_space)
    with pytest.raises(PartFailed) as caught:
        rewritten(made, tmp_path / "first", merged="float32")
    assert (caught.value.part, caught.value.error) == (Part.MERGED, "OSError")
    folder = rewritten(made, tmp_path / "second", merged="float32", without=(Part.MERGED,))
    opened = open_bundle(folder)
    assert not opened.has_merged
    assert probabilities(made, opened, opened.sampler("adapter")) == pytest.approx(exported(made), abs=1e-6)


def test_a_failing_parity_check_is_named_and_can_be_left_out(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "compare_ways", out_of_space)
    with pytest.raises(PartFailed) as caught:
        rewritten(made, tmp_path / "first")
    assert caught.value.part is Part.PARITY
    folder = rewritten(made, tmp_path / "second", without=(Part.PARITY,))
    assert json.loads((folder / "parity.json").read_text())["checked"] is False
    assert "was not checked" in (folder / "README.md").read_text()
    open_bundle(folder)


def test_a_version_0_1_bundle_with_other_prompt_tokens_is_refused(copied: Path) -> None:
    contents = jsonio.read_json(copied / "bundle.json")
    del contents["encoder_digest"]
    del contents["prompt"]["template_date"]
    jsonio.write_json(copied / "bundle.json", contents)
    with pytest.raises(ModelError, match=r"version 0\.1"):  # "Text: " and the text were tokenized apart
        open_bundle(copied)


def test_a_bundle_with_other_prompt_tokens_is_refused(copied: Path) -> None:
    contents = jsonio.read_json(copied / "bundle.json")
    jsonio.write_json(copied / "bundle.json", {**contents, "encoder_digest": "0" * 64})
    with pytest.raises(ModelError, match="the tokens of the prompt of the bundle"):
        open_bundle(copied)


REPO = Path(__file__).resolve().parents[3]
ALIKE = {"smollm2", "qwen2.5", "whitespace"}
"""Templates that version 0.1 tokenized in the same way, if the text has no space around it."""


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_version_0_1_bundles_open_only_with_equal_prompt_tokens(tmp_path: Path, shape: Shape) -> None:
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
    tokenizer = ChatTokenizer.load(shape.save(tmp_path), {})
    encoder = Encoder(tokenizer, prompts, None, EncodeSettings.of(StudentConfig()))
    if shape.name in ALIKE:
        check_first_version(tmp_path, encoder)
        return
    with pytest.raises(ModelError, match=r"version 0\.1"):
        check_first_version(tmp_path, encoder)
