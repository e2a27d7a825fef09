"""What a run is reported from: intervals stand beside the metrics of the same rows only."""

from __future__ import annotations

from typing import Any, cast

from core.pipeline.outcome import Outcome
from core.pipeline.scorers import Scorer
from tests.core.pipeline.making import Made


def test_intervals_are_told_of_the_rows_that_all_were_compared_on_and_of_no_others(made: Made) -> None:
    scored, frozen = (
        made.manifests["export/student/test/reasoning"],
        made.manifests["decide/student/reasoning"],
    )
    student = Scorer("student", "Student", "student", {"test": scored}, frozen)
    unneeded = cast(Any, None)
    outcome = Outcome(
        store=made.store,
        run="small",
        config=unneeded,
        bench=unneeded,
        parts=unneeded,
        kept=unneeded,
        encoded=unneeded,
        checkpoints={},
        curve=[],
        selection=unneeded,
        modes=[student],
        others=[],
        split="test",
        analysis=made.manifests["analyse/student"],
        explained=None,
    )
    of_test = outcome.intervals(student, "test")
    assert of_test["macro_f1"].value == outcome.readings.metrics(student, "test")["macro_f1"]
    more = Scorer(
        "tfidf_words",
        "Words",
        "baseline",
        {"test": made.manifests["baseline"]},
        threshold=0.5,
        file="tfidf_words_train.jsonl",
    )
    assert outcome.intervals(more, "test") == {}
