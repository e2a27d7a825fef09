"""What a run refuses before anything is done."""

from __future__ import annotations

import pytest

from core.errors import ConfigError
from tests.core.pipeline.making import Made, pipeline


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("evaluation.calibration={method: auto}", "calibration"),
        ("evaluation.threshold={objective: f1}", "threshold"),
    ],
)
def test_a_setting_that_no_stage_reads_is_refused_and_not_passed_over(
    made: Made, change: str, name: str
) -> None:
    pipeline(made.config).preflight()
    with pytest.raises(ConfigError, match=rf"evaluation\.{name}: the flow does not read it in this version"):
        pipeline(made.config, [change]).preflight()
