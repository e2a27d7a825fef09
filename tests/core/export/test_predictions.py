"""Files of predictions are valid JSON for any text, with one record per line in the order of the data."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import StageError
from core.evaluation.calibration import Calibrator
from core.evaluation.decision import Decision
from core.evaluation.predictions import Generated, Predictions
from core.export.run_files import write_predictions
from core.records import Example, SplitName
from tests.core.evaluation.scored import Row, predictions

ANY_TEXT = st.text(st.characters())  # half surrogate pairs, control characters and line separators too


def scored(
    name: str = "a", probability: float | None = 0.4, off_label_mass: float = 0.1, **fields: Any
) -> Row:
    generated = {k: fields.pop(k) for k in ("text", "label") if k in fields}
    return Row(name, 1, probability, off_label_mass, Generated(**generated), **fields)


def written(
    split: SplitName, examples: list[Example], rows: Predictions, decision: Decision
) -> list[SimpleNamespace]:
    """The records of a file, with their fields as attributes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.json"
        write_predictions(path, split, examples, rows, decision)
        return [SimpleNamespace(**record) for record in json.loads(path.read_bytes())]


@given(st.lists(st.tuples(ANY_TEXT, st.none() | ANY_TEXT), max_size=5))
def test_any_text_reads_back_equal_with_one_record_per_line(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str | None]]
) -> None:
    path = tmp_path_factory.mktemp("p") / "test.json"
    examples = [Example(f"e{i}", text, 1) for i, (text, _) in enumerate(texts)]
    rows = predictions([scored(f"e{i}", text=raw) for i, (_, raw) in enumerate(texts)])
    write_predictions(path, "test", examples, rows, Decision.by_definition(0.3))
    back = json.loads(path.read_bytes().decode("utf-8"))
    assert [(r["text"], r["raw_output"]) for r in back] == texts
    lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    assert [json.loads(line.rstrip(b",")) for line in lines[1:-1]] == back


def test_record_fields_and_their_order() -> None:
    lower = Calibrator("platt", {"slope": 1.0, "shift": -0.1}, "platt", 1, 1, None, None, "as asked")
    rows = predictions([scored("spam-9", truncated_tokens=3)])
    (made,) = written("val", [Example("spam-9", "hello", 1)], rows, Decision(lower, 0.35, "for a test"))
    assert list(vars(made).items()) == [
        ("sample_id", "val_0_k0"),
        ("example_id", "spam-9"),
        ("split", "val"),
        ("k_index", 0),
        ("text", "hello"),
        ("gold_label", 1),
        ("raw_output", None),
        ("parse_ok", True),
        ("parse_source", "scored"),
        ("pred_label", 0),
        ("reasoning", None),
        ("error", None),
        ("probability", pytest.approx(0.3762, abs=1e-4)),
        ("uncalibrated_probability", 0.4),
        ("threshold", 0.35),
        ("predicted", 1),
        ("outside_mass", 0.1),
        ("valid", True),
        ("truncated_tokens", 3),
        ("bounded", False),
    ]


@pytest.mark.parametrize(
    ("row", "parse_ok", "source", "label", "error"),
    [
        (scored(text="<label>0</label>", label=0), True, "generated", 0, None),
        (scored(text="who knows"), False, None, None, "parse_failed"),
        (scored(text="  "), False, None, None, "empty_response"),
        (scored(probability=0.5), True, "scored", 1, None),
        (scored(off_label_mass=0.6), False, None, None, None),
        (scored(probability=None), False, None, None, None),
    ],
)
def test_the_label_of_the_model_is_separate_from_the_decision(
    row: Row, parse_ok: bool, source: str | None, label: int | None, error: str | None
) -> None:
    (made,) = written("test", [Example("a", "t", 1)], predictions([row]), Decision.by_definition(0.2))
    assert (made.parse_ok, made.parse_source, made.pred_label) == (parse_ok, source, label)
    assert made.error == error
    assert made.predicted == (0 if row.probability is None else 1)


def test_the_threshold_applies_to_calibrated_probabilities() -> None:
    halved = Calibrator("platt", {"slope": 1.0, "shift": -1.0}, "platt", 1, 1, None, None, "as asked")
    rows = predictions([scored("a", probability=0.5), scored("b", probability=0.8)])
    examples = [Example("a", "t", 1), Example("b", "t", 1)]
    made = written("test", examples, rows, Decision(halved, 0.4, "for a test"))
    assert [r.uncalibrated_probability for r in made] == [0.5, 0.8]
    assert [round(r.probability or 0, 4) for r in made] == [0.2689, 0.5954]
    assert [r.predicted for r in made] == [0, 1]
    # The model's own label is not calibrated.
    assert [r.pred_label for r in made] == [1, 1]


def test_without_a_threshold_nothing_is_predicted() -> None:
    none = Decision(Decision.by_definition(0.5).calibrator, None, "no threshold has a precision of 0.9")
    (made,) = written("test", [Example("a", "t", 1)], predictions([scored("a")]), none)
    assert (made.predicted, made.threshold, made.probability) == (None, None, 0.4)


def test_scores_of_other_rows_are_refused() -> None:
    with pytest.raises(StageError, match="1 examples but 2 were scored"):
        written(
            "test",
            [Example("a", "t", 1)],
            predictions([scored("a"), scored("b")]),
            Decision.by_definition(0.5),
        )
    with pytest.raises(StageError, match="row 0 is example a, but b was scored"):
        written("test", [Example("a", "t", 1)], predictions([scored("b")]), Decision.by_definition(0.5))


def test_nan_is_refused_and_an_empty_split_is_an_empty_array(tmp_path: Path) -> None:
    endless = Decision(Decision.by_definition(0.5).calibrator, float("inf"), "for a test")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_predictions(
            tmp_path / "bad.json", "test", [Example("a", "t", 1)], predictions([scored("a")]), endless
        )
    write_predictions(tmp_path / "empty.json", "test", [], predictions([]), Decision.by_definition(0.5))
    assert json.loads((tmp_path / "empty.json").read_text()) == []
