"""The outcome of a run has intervals only for metrics of the same rows."""

from __future__ import annotations

from typing import Any, cast

from core.config.loading import load
from core.pipeline.exporting import Exported, Scorer, StudentMode
from core.pipeline.outcome import Outcome
from core.pipeline.runners import Runner, Switches
from core.pipeline.training_loop import Trained
from core.store import RunView
from tests.core.pipeline.making import BASE, Made


def test_intervals_exist_only_for_the_rows_that_all_scorers_share(made: Made) -> None:
    val, scored = (made.manifests[f"export/student/{split}/reasoning"] for split in ("val", "test"))
    frozen = made.manifests["decide/student/reasoning"]
    student = StudentMode("student", "Student", "student", {"test": scored}, decision=frozen, val=val)
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
