"""The sections: the funnel, seeds, reads of test, costs and limitations."""

from __future__ import annotations

import dataclasses
from statistics import mean, stdev

import pytest

from core.config import METRICS, ThresholdConfig
from core.errors import Failures, strict
from core.evaluation.analysis import LabelAnalysis
from core.report.document import SECTIONS, Bullets, Prose, ReportData, Section, Table, run_report, section
from core.report.run_sections import costs, rows, seeds, teacher
from core.report.scorer_sections import compared, results
from core.report.verdict import reads, remarks, sentences
from core.store.run_view import Read
from tests.core.report.making import (
    SCORERS,
    as_markdown,
    as_page,
    full,
    ledger,
    other_seeds,
    teacher_summary,
    usual,
)


def tables(found: Section | None) -> list[Table]:
    assert found is not None
    return [block for block in found.blocks if isinstance(block, Table)]


def warnings(found: Section | None) -> list[str]:
    assert found is not None
    return [b.text for b in found.blocks if isinstance(b, Prose) and b.warning]


def test_a_registered_section_is_in_both_reports_in_its_order() -> None:
    @section("greeting", order=11)
    def greeting(data: ReportData) -> Section:
        return Section("greeting", "Greeting", [Prose(f"Hello, {data.run_name}")])

    try:
        found = [s.key for s in run_report(full(), strict()).sections]
        assert found[:3] == ["verdict", "greeting", "results"]
        assert "## Greeting\n\nHello, night" in as_markdown(full())
        assert '<section id="greeting">' in as_page(full(), pictures=False)
    finally:
        SECTIONS.remove("greeting")


def test_skewed_rejection_is_a_warning_with_its_remedy() -> None:
    report = full()
    assert report.teacher is not None
    assert report.teacher.skew is not None
    (shown,) = warnings(teacher(report))
    said = report.teacher.skew.said
    assert shown == f"{said[:1].upper()}{said[1:]}."
    assert report.teacher.skew.rule == "label_mismatch"
    assert "label_mismatch" in shown
    assert "teacher.hint" in shown
    even = full(teacher=teacher_summary(skewed=False))
    assert warnings(teacher(even)) == []


def test_the_warning_of_the_funnel_is_not_repeated_in_the_notices() -> None:
    report = full()
    assert report.teacher is not None
    assert report.teacher.skew is not None
    noticed = dataclasses.replace(report, notices=("2 rows left out", report.teacher.skew.said))
    (bullets,) = [b for b in rows(noticed).blocks if isinstance(b, Bullets)]
    assert list(bullets.items) == ["2 rows left out."]


def test_the_funnel_adds_up_by_gold_label() -> None:
    report = full()
    assert report.teacher is not None
    by_name = {row[0].text: [cell.text for cell in row[1:]] for row in tables(teacher(report))[0].rows}
    for k in range(3):
        texts, missing = int(by_name["Train texts"][k]), int(by_name["without an answer"][k])
        rejected = sum(int(row[k]) for name, row in by_name.items() if name.startswith("rejected"))
        assert texts == missing + rejected + int(by_name["Accepted"][k])
    assert int(by_name["Accepted"][2]) == report.teacher.funnel.texts.accepted


def test_the_teachers_first_answers_are_measured_on_train() -> None:
    report = full()
    assert report.teacher is not None
    first = report.teacher.first_answers
    assert first is not None
    (row,) = tables(teacher(report))[1].rows
    right, whole = first.tp + first.tn, first.tp + first.tn + first.fp + first.fn + first.unread
    assert row[2].text == f"{right / whole:.3f}"
    gold = report.teacher.model_copy(update={"teacher_kind": "gold"})
    assert len(tables(teacher(full(teacher=gold)))) == 1


def test_the_spread_of_seeds_includes_this_run() -> None:
    report = full()
    (table,) = tables(seeds(report))
    each = [report.student.metrics, *(other.metrics for other in other_seeds())]
    values = [metrics["macro_f1"] or 0.0 for metrics in each]
    found = {row[0].text: row[2].text for row in table.rows}
    assert found["mean"] == f"{mean(values):.3f}"
    assert found["standard deviation"] == f"{stdev(values):.3f}"
    assert seeds(full(seeds=())) is None


def test_a_spread_is_undefined_if_a_seed_lacks_the_metric() -> None:
    (one, _) = other_seeds()
    without = dataclasses.replace(one.metrics, values={**one.metrics.values, "macro_f1": None})
    lacking = dataclasses.replace(one, metrics=without)
    (table,) = tables(seeds(full(seeds=(lacking,))))
    by_name = {row[0].text: [cell.text for cell in row[2:4]] for row in table.rows}
    assert by_name["mean"][0] == "–"
    assert by_name["mean"][1] != "–"


def test_more_than_one_read_of_test_is_a_warning() -> None:
    one, two = Read("a", "2026", "x"), Read("b", "2026", "y")
    assert warnings(reads(full(reads=(one,)))) == []
    (said,) = warnings(reads(full(reads=(one, two))))
    assert "2 students of 2 runs" in said
    assert reads(full(reads=())) is None


def test_reads_by_the_seeds_of_a_run_are_a_warning_only_if_one_reads_twice() -> None:
    each = tuple(Read(name, "2026", "x") for name in ("night", "night-seed1", "night-seed2"))
    assert warnings(reads(full(reads=each))) == []
    assert not any("selects on test" in remark for remark in remarks(full(reads=each)))
    assert warnings(reads(full(reads=(*each, Read("night", "2027", "y"))))) != []


def test_limitations_follow_from_the_data() -> None:
    said = " ".join(sentences(full(seeds=())))
    assert "One seed (7)" in said
    assert "names no groups" in said
    assert "Test has 300 rows" in said
    assert "evaluated on 120 of 300 rows only" in said
    assert "The teacher was not asked about these rows" not in said
    bare = usual(rows=60, groups=3, scorers=SCORERS[:1], teacher=False, reasoning=0, split="val")
    said = " ".join(sentences(dataclasses.replace(bare, seeds=other_seeds(), untested=("mine",))))
    for words in (
        "Test was not exported",
        "The teacher was not asked about these rows",
        "The untrained model was not measured",
        "No baseline was measured",
        "No reasoning was generated",
        "mine",
    ):
        assert words in said
    assert "One seed" not in said
    assert "names no groups" not in said


@pytest.mark.parametrize("usd", [None, 1.5])
def test_unknown_cost_is_stated(usd: float | None) -> None:
    found = costs(full(ledger=ledger(usd)))
    assert found is not None
    (said,) = [b.text for b in found.blocks if isinstance(b, Prose)]
    assert ("US$ 1.50" in said) == (usd is not None)
    shares = [row[2].text for row in tables(found)[1].rows][:-1]
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.5)


def test_tokens_are_in_the_columns_of_their_kind() -> None:
    table = tables(costs(full()))[0]
    by_name = {
        row[0].text: dict(zip(table.columns, (c.text for c in row), strict=True)) for row in table.rows
    }
    teacher_row, student_row = by_name["teacher"], by_name["student"]
    assert (teacher_row["requests"], teacher_row["of them cached"]) == ("455", "410,000")
    assert (student_row["prompt tokens"], student_row["completion tokens"]) == ("610,000", "9,000")
    assert (student_row["trained tokens"], teacher_row["trained tokens"]) == ("88,000", "–")


def test_every_registered_metric_has_a_column() -> None:
    assert set(compared()) == set(METRICS)


def test_rows_match_their_columns_and_sections_have_unique_keys() -> None:
    for report in (full(), usual(rows=60, groups=4, scorers=SCORERS[:2])):
        found = run_report(report, Failures()).sections
        keys = [each.key for each in found]
        assert len(keys) == len(set(keys))
        for each in found:
            for table in (b for b in each.blocks if isinstance(b, Table)):
                assert {len(row) for row in table.rows} == {len(table.columns)}


def test_gold_labels_are_not_reported_as_an_unasked_teacher() -> None:
    report = usual(rows=60, scorers=SCORERS[:2], teacher=False, reasoning=0)
    assert report.teacher is not None
    as_gold = report.teacher.model_copy(update={"teacher_kind": "gold"})
    gold = dataclasses.replace(report, teacher=as_gold)
    assert "The teacher was not asked" in " ".join(sentences(report))
    assert "The teacher was not asked" not in " ".join(sentences(gold))
    found = teacher(gold)
    assert found is not None
    assert isinstance(found.blocks[0], Prose)
    assert found.blocks[0].text.startswith("No teacher was asked: the student learns the gold labels. ")


def test_a_reason_names_its_scorer_once() -> None:
    out_of_reach = ThresholdConfig(objective="share_flagged", share=1e-9)
    report = usual(rows=60, scorers=SCORERS[:2], teacher=False, reasoning=0, threshold=out_of_reach)
    notes = tables(results(report))[0].notes
    (of_student,) = [note for note in notes if note.startswith("Student")]
    assert of_student.count("Student (step 40)") == 1
    assert "no threshold flags any row" in of_student


def test_too_few_groups_are_explained() -> None:
    few = usual(rows=60, groups=15, scorers=SCORERS[:2], teacher=False, reasoning=0)
    said = " ".join(sentences(few))
    assert "No interval: there are fewer than 6 groups to draw from, so nothing is shown to be better" in said
    assert "fewer than 6 groups" not in " ".join(sentences(usual(rows=60, groups=4)))
    text = " ".join(str(block) for each in run_report(few, strict()).sections for block in each.blocks)
    assert "fewer than 6 groups" in text
    assert as_markdown(few)
    assert as_page(few, pictures=False)


def test_unlabeled_rows_of_the_teacher_are_noted_as_negative() -> None:
    report = full()
    labels = report.analysis.scorers["teacher"]
    assert isinstance(labels, LabelAnalysis)
    unlabelled = labels.model_copy(update={"unlabelled": 1})
    scorers = {**report.analysis.scorers, "teacher": unlabelled}
    changed = report.analysis.model_copy(update={"scorers": scorers})
    notes = tables(results(full(analysis=changed)))[0].notes
    assert "Teacher: 1 row without a label, which counts as negative." in notes
    assert any(note.endswith("undefined, it gives labels and no probabilities.") for note in notes)
    assert not any("which counts" in note for note in tables(results(report))[0].notes)
