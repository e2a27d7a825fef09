"""What a run is reported from: intervals stand beside the metrics of the same rows only."""

from __future__ import annotations

from typing import Any, cast

from core.config.loading import load
from core.pipeline.exporting import Exported, Scorer
from core.pipeline.outcome import Outcome
from core.pipeline.runners import Runner, Switches
from core.pipeline.training_loop import Trained
from core.store import RunView
from tests.core.pipeline.making import BASE, Made


def test_intervals_are_told_of_the_rows_that_all_were_compared_on_and_of_no_others(made: Made) -> None:
    scored, frozen = (
        made.manifests["export/student/test/reasoning"],
        made.manifests["decide/student/reasoning"],
    )
    student = Scorer("student", "Student", "student", {"test": scored}, frozen)
    unneeded = cast(Any, None)
    outcome = Outcome(
        run=Runner(load(made.config, BASE), Switches(), RunView(made.store, "small")),
        parts=unneeded,
        trained=Trained(),
        selection=unneeded,
        exported=Exported(None, [student], [], "test", made.manifests["analyse/student"], None),
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
