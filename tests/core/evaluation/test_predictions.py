"""A score gives the same decision alone or in an array, from memory or a file, in any precision."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.evaluation.bootstrap import Judged
from core.evaluation.calibration import Calibrator, curve
from core.evaluation.curves import draw_curves
from core.evaluation.decision import Decision
from core.evaluation.metrics import compute
from core.evaluation.predictions import Predictions, at_or_above
from core.export.run_files import write_predictions
from core.predict.table_io import csv_writer, json_line
from core.records import Example
from tests.core.evaluation.scored import counts

SCORES = st.floats(0, 1).flatmap(lambda p: st.sampled_from([p, float(np.float32(p)), np.float32(p)]))
NEAR = st.sampled_from([-1, 0, 1])


def scored(*p: float) -> Predictions:
    return Predictions.of([f"r{i}" for i in range(len(p))], p, gold=[1] * len(p))


@given(SCORES, SCORES, NEAR)
@example(np.float32(0.7), 0.7, 0)
@example(np.float32(0.3), 0.3, 0)
@example(0.7, np.float32(0.7), 0)
@example(np.float32(0.1), float(np.float32(0.1)), 0)
def test_a_score_gets_one_label_everywhere(
    tmp_path_factory: pytest.TempPathFactory, p: float, threshold: float, near: int
) -> None:
    path = tmp_path_factory.mktemp("scores") / "scores.jsonl"
    for at in (threshold, float(np.nextafter(float(p), float(near))), p):
        c = scored(p)
        expected = int(at_or_above(p, at))
        assert bool(np.asarray(Judged.of(c, at).predicted)[0]) is bool(expected)
        assert counts(compute(c, at)) == (expected, 0, 1 - expected, 0)
        covered = draw_curves(c.positive, c.probability, at).by_coverage
        assert covered is not None
        assert covered.accuracy == [expected]
        write_predictions(path, "test", [Example("r0", "text", 1)], c, Decision.by_definition(float(at)))
        (exported,) = json.loads(path.read_bytes())
        assert exported["predicted"] == expected
        c.write(path)
        through_json = json.loads(json_line({"probability": exported["probability"]}))["probability"]
        for again in (Predictions.read(path).probability[0], through_json, _through_csv(through_json)):
            assert int(at_or_above(again, at)) == expected


def _through_csv(p: float) -> float:
    out = io.StringIO()
    csv_writer(out)([p])
    return float(next(csv.reader([out.getvalue()]))[0])


@pytest.mark.parametrize("kind", ["none", "temperature", "platt", "isotonic"])
def test_a_score_is_calibrated_in_float64(kind: str) -> None:
    all_parameters: dict[str, dict[str, Any]] = {
        "temperature": {"temperature": 1.7},
        "platt": {"slope": 0.8, "shift": 0.3},
        "isotonic": {"at": (0.1, 0.9), "to": (0.2, 0.7)},
    }
    parameters = all_parameters.get(kind, {})
    low: Any = np.array([0.1, 0.3, 0.7], dtype=np.float32)
    found = curve(kind, parameters, low)
    assert found.dtype == np.float64
    assert found.tolist() == curve(kind, parameters, low.astype(np.float64)).tolist()
    calibrator = Calibrator(kind, parameters, kind, 0, 0, None, None, "")  # type: ignore[arg-type]
    assert calibrator.apply_to(scored(*low)).probability.tolist() == found.tolist()


def test_a_missing_probability_is_below_every_threshold() -> None:
    assert at_or_above(np.array([np.nan, 0.0, 1.0]), 0.0).tolist() == [False, True, True]
