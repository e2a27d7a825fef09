"""When the label-only mode asks what the student is asked anyway, so that it is not compared with itself."""

from __future__ import annotations

import pytest

from tests.core.pipeline.making import Made, context


@pytest.mark.parametrize(
    ("target", "same"), [("label_only", True), ("label_first", False), ("reason_first", False)]
)
def test_a_student_that_learnt_label_only_is_asked_the_same_in_either_mode(
    made: Made, target: str, same: bool
) -> None:
    of = context(made.config, [f"student.target={target}"])
    assert of.label_only_is_the_same == same
    frames = [of.encoder(label_only).frame for label_only in (False, True)]
    assert (frames[0] == frames[1]) == same
