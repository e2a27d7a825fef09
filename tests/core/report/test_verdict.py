"""The verdict states wins, losses, undecided comparisons and training that shows no benefit."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from core.errors import CLASSICAL, Part
from core.evaluation.analysis import Scored, measure_scorers
from core.evaluation.calibration import Calibrator
from core.evaluation.decision import Decision, select
from core.report.document import ReportData, conclusion
from core.report.verdict import SHOWN, differences, headline, recommendation, remarks, shown
from tests.core.report.making import SCORERS, Scorer, as_page, examples, full, scored, usual


@functools.cache
def against(student: float, untrained: float, baseline: float) -> ReportData:
    """A student with two other scorers; each number is the distance of the classes in log odds."""
    scorers = [
        dataclasses.replace(SCORERS[0], apart=student),
        dataclasses.replace(SCORERS[1], apart=untrained),
        Scorer("tfidf_words", "TF-IDF words", "baseline", baseline),
    ]
    return usual(rows=240, scorers=scorers, teacher=False, reasoning=0)


def one_class() -> ReportData:
    """A report of test rows that are all negative."""
    rows = examples("test", np.zeros(60, dtype=np.bool_))
    made = [
        Scored(
            s.name,
            s.title,
            scored(rows, apart=s.apart, seed=k),
            Decision(Calibrator.identity("as said"), 0.5, "as said"),
            kind=s.kind,
        )
        for k, s in enumerate(SCORERS[:3])
    ]
    report = usual(rows=60, scorers=SCORERS[:3], teacher=False, reasoning=0)
    return dataclasses.replace(report, analysis=measure_scorers("test", rows, made, resamples=200))


def test_a_baseline_that_wins_is_named() -> None:
    said = headline(against(2.0, 0.5, 7.0))
    assert "the student beats the untrained model" in said
    assert "loses to TF-IDF words" in said


def recommended(student: float, **baselines: float) -> str:
    """The recommendation for a student and baselines with these distances of the classes."""
    scorers = [dataclasses.replace(SCORERS[0], apart=student), SCORERS[1]]
    scorers += [Scorer(name, str(CLASSICAL[name]), "baseline", apart) for name, apart in baselines.items()]
    return recommendation(usual(rows=240, scorers=scorers, teacher=False, reasoning=0))


def test_the_cheapest_model_that_the_student_does_not_beat_is_recommended() -> None:
    by_all = "Recommended: the student."
    assert recommended(7.0, tfidf_words=0.5, tfidf_chars=0.5).startswith(by_all)
    assert recommended(3.0, tfidf_words=0.2, tfidf_chars=3.0).startswith(
        f"Recommended: {Part.TFIDF_CHARACTERS}. "
    )
    assert recommended(3.0, tfidf_words=3.0, embedding=3.0).startswith(f"Recommended: {Part.TFIDF_WORDS}. ")


def test_a_model_that_beats_the_student_is_preferred_to_a_cheaper_one_that_does_not() -> None:
    found = recommended(2.0, tfidf_words=2.0, embedding=9.0)
    assert found.startswith(f"Recommended: {Part.EMBEDDING}. It is shown to be better than the student")


def test_without_a_cheaper_model_nothing_is_recommended() -> None:
    assert recommended(3.0) == ""


def test_a_student_no_better_than_untrained_is_not_shown_to_benefit() -> None:
    report = against(0.5, 0.6, 7.0)
    assert any("Training is not shown to help" in r for r in remarks(report))
    assert not any("Training is not shown" in r for r in remarks(against(2.0, 0.5, 7.0)))


def test_conclusions_match_the_sentences_of_comparisons() -> None:
    seen = set()
    for report in (full(), against(2.0, 0.5, 7.0)):
        title = report.analysis.first.title
        for other, c in report.analysis.compared():
            for d in c.differences.values():
                sentence, found = d.verdict, conclusion(d)
                begins = {
                    "better": f"{title} is better than {other.title}",
                    "worse": f"{other.title} is better than {title}",
                    "even": "no difference shown",
                }
                if found == "open":
                    assert "not compared" in sentence
                else:
                    assert sentence.startswith(begins[found])
                seen.add(found)
    assert seen == {"better", "worse", "even", "open"}


def test_a_smaller_log_loss_is_better() -> None:
    first = next(c.differences["log_loss"] for o, c in full().analysis.compared() if o.kind == "untrained")
    assert first.value is not None
    assert first.value < 0
    assert conclusion(first) == "better"


@pytest.mark.parametrize(("metric", "expected"), [("auroc", "auroc"), ("brier", "brier")])
def test_the_selection_metric_comes_first(metric: str, expected: str) -> None:
    report = full()
    changed = dataclasses.replace(report, selection=select(report.curve, metric))
    assert shown(changed)[0] == expected
    assert set(shown(changed)) == {expected, "macro_f1", "auroc"}


def test_each_finding_has_its_smallest_detectable_difference() -> None:
    text = as_page(full(), pictures=False)
    for other, c in full().analysis.compared():
        found = text.split(f"<h3>Against {other.title}</h3>")[1].split("</li>")[0]
        shows = c.differences["macro_f1"].detectable
        assert f"The smallest difference of macro-F1 that these rows show: {shows:.3f}." in found


def test_a_student_alone_beats_nothing() -> None:
    alone = usual(rows=60, scorers=SCORERS[:1], teacher=False, reasoning=0)
    assert "so the student beats nothing" in headline(alone)
    assert differences(alone.analysis, SHOWN) == {}


def prompts(own: float, other: float) -> ReportData:
    """A student and the untrained model with both prompts, by the distance of the classes in log odds."""
    scorers = [
        dataclasses.replace(SCORERS[0], apart=4.0),
        dataclasses.replace(SCORERS[1], apart=own),
        Scorer("untrained_rulebook", "Untrained student (with rulebook)", "untrained", other),
    ]
    return usual(rows=240, scorers=scorers, teacher=False, reasoning=0)


def test_the_untrained_model_is_named_with_its_prompt() -> None:
    report = prompts(own=0.5, other=4.0)
    said = headline(report)
    assert "the student beats the untrained model;" in said
    assert "no difference is shown between it and the untrained model (with rulebook)." in said
    (of_training,) = [r for r in remarks(report) if r.startswith("Training")]
    assert "not shown to help more than another prompt does" in of_training
    assert "better than the untrained model (with rulebook) on these rows" in of_training


def test_rows_of_one_class_leave_auroc_uncompared() -> None:
    """An undefined AUROC is not evidence against training."""
    report = one_class()
    chosen = dataclasses.replace(report, selection=dataclasses.replace(report.selection, metric="auroc"))
    assert "of test, the student could not be compared with the untrained model and" in headline(chosen)
    said = remarks(chosen)
    assert not any(r.startswith("Training is not shown") for r in said)
    assert any("the student's AUROC is undefined; at the threshold" in r for r in said)
    assert not any("–" in r for r in said)


def test_equal_smallest_differences_are_stated_once() -> None:
    report = usual(rows=240, scorers=[SCORERS[0], *SCORERS[2:4]], teacher=False, reasoning=0)
    first, _ = report.analysis.comparisons
    analysis = report.analysis.model_copy(update={"comparisons": (first, first)})
    (said,) = [
        r for r in remarks(dataclasses.replace(report, analysis=analysis)) if r.startswith("The small")
    ]
    assert said.endswith("up, against any other scorer.")
