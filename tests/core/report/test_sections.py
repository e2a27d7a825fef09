"""The sections: funnel with its remedy, seeds with their spread, readers, and what was not tested."""

from __future__ import annotations

import dataclasses
from statistics import mean, stdev

import pytest

from core.config.measure import METRICS, ThresholdConfig
from core.report import costs, document, origin, page, reads, results, seeds, teaching, untested
from core.report.blocks import Bullets, Prose, Section, Table
from core.report.inputs import SeedResult
from core.report.markdown import render
from core.report.results import compared
from core.store.reads import Read
from tests.core.report.making import SCORERS, full, other_seeds, teacher_summary, usual


def tables(section: Section | None) -> list[Table]:
    assert section is not None
    return [block for block in section.blocks if isinstance(block, Table)]


def warnings(section: Section | None) -> list[str]:
    assert section is not None
    return [b.text for b in section.blocks if isinstance(b, Prose) and b.warning]


def test_rejection_that_eats_a_class_is_a_warning_with_its_remedy() -> None:
    report = full()
    assert report.teacher is not None
    (shown,) = warnings(teaching.section(report))
    said = report.teacher["skew"]["said"]
    assert shown == f"R{said[1:]}."
    assert said.startswith("rejection takes more positive texts than negative ones")
    assert "Most of it is label_mismatch" in said
    assert "teacher.hint" in said
    even = full(teacher=teacher_summary(skewed=False))
    assert warnings(teaching.section(even)) == []


def test_what_rejection_takes_more_of_is_said_once() -> None:
    report = full()
    assert report.teacher is not None
    said = report.teacher["skew"]["said"]
    noticed = dataclasses.replace(report, notices=("2 rows left out", said))
    (bullets,) = [b for b in origin.data(noticed).blocks if isinstance(b, Bullets)]
    assert list(bullets.items) == ["2 rows left out."]


def test_the_funnel_adds_up_by_gold_label() -> None:
    report = full()
    assert report.teacher is not None
    funnel = report.teacher["funnel"]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in tables(teaching.section(report))[0].rows}
    for k in range(3):
        texts, missing = int(rows["Train texts"][k]), int(rows["without an answer"][k])
        rejected = sum(int(row[k]) for name, row in rows.items() if name.startswith("rejected"))
        assert texts == missing + rejected + int(rows["Accepted"][k])
    assert int(rows["Accepted"][2]) == funnel["texts"]["accepted"]


def test_the_teachers_first_answers_are_measured_on_train() -> None:
    report = full()
    assert report.teacher is not None
    first = report.teacher["first_answers"]
    (row,) = tables(teaching.section(report))[1].rows
    right, whole = first["tp"] + first["tn"], sum(first.values())
    assert row[2].text == f"{right / whole:.3f}"
    gold = {**report.teacher, "teacher_kind": "gold"}
    assert len(tables(teaching.section(full(teacher=gold)))) == 1


def test_seeds_are_spread_over_all_of_them_this_run_included() -> None:
    report = full()
    (table,) = tables(seeds.section(report))
    values = [r.metrics["macro_f1"] for r in (seeds.own(report), *other_seeds())]
    found = {row[0].text: row[2].text for row in table.rows}
    assert found["mean"] == f"{mean(values):.3f}"  # type: ignore[type-var]
    assert found["standard deviation"] == f"{stdev(values):.3f}"  # type: ignore[type-var]
    assert seeds.section(full(seeds=())) is None


def test_a_spread_is_undefined_where_a_seed_lacks_the_metric() -> None:
    lacking = SeedResult("x", 9, {"auroc": 0.9, "macro_f1": None})
    (table,) = tables(seeds.section(full(seeds=(lacking,))))
    rows = {row[0].text: [cell.text for cell in row[2:4]] for row in table.rows}
    assert rows["mean"][0] == "–"
    assert rows["mean"][1] != "–"


def test_one_reader_of_test_is_fine_and_more_are_selection() -> None:
    one, two = Read("a", "2026", "x"), Read("b", "2026", "y")
    assert warnings(reads.section(full(reads=(one,)))) == []
    (said,) = warnings(reads.section(full(reads=(one, two))))
    assert "2 students of 2 runs" in said
    assert reads.section(full(reads=())) is None


def test_the_seeds_of_a_run_are_no_selection_but_a_second_student_of_one_is() -> None:
    each = tuple(Read(name, "2026", "x") for name in ("night", "night-seed1", "night-seed2"))
    assert warnings(reads.section(full(reads=each))) == []
    assert reads.selected_on_test(full(reads=each)) == []
    assert warnings(reads.section(full(reads=(*each, Read("night", "2027", "y"))))) != []


def test_what_was_not_tested_follows_from_the_facts() -> None:
    said = " ".join(untested.sentences(full(seeds=())))
    assert "One seed (7)" in said
    assert "names no groups" in said
    assert "Test has 300 rows" in said
    assert "was judged on 120 of 300 rows alone" in said
    assert "The teacher was not asked about these rows" not in said
    bare = usual(rows=60, groups=3, scorers=SCORERS[:1], teacher=False, reasoning=0, split="val")
    said = " ".join(untested.sentences(dataclasses.replace(bare, seeds=other_seeds(), untested=("mine",))))
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
def test_money_is_said_or_said_to_be_unknown(usd: float | None) -> None:
    section = costs.section(full(ledger={**full().ledger, "usd": usd}))
    assert section is not None
    (said,) = [b.text for b in section.blocks if isinstance(b, Prose)]
    assert ("US$ 1.50" in said) == (usd is not None)
    shares = [row[2].text for row in tables(section)[1].rows][:-1]
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.5)


def test_every_metric_of_an_analysis_has_a_column() -> None:
    assert set(compared()) == set(METRICS)


def test_rows_have_as_many_cells_as_columns_and_sections_have_names_of_their_own() -> None:
    for report in (full(), usual(rows=60, groups=4, scorers=SCORERS[:2])):
        found = document.sections(report)
        keys = [section.key for section in found]
        assert len(keys) == len(set(keys))
        for section in found:
            for table in (b for b in section.blocks if isinstance(b, Table)):
                assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_teacher_that_is_gold_is_no_teacher_that_was_not_asked() -> None:
    report = usual(rows=60, scorers=SCORERS[:2], teacher=False, reasoning=0)
    assert report.teacher is not None
    gold = dataclasses.replace(report, teacher={**report.teacher, "teacher_kind": "gold"})
    assert "The teacher was not asked" in " ".join(untested.sentences(report))
    assert "The teacher was not asked" not in " ".join(untested.sentences(gold))
    section = teaching.section(gold)
    assert section is not None
    assert isinstance(section.blocks[0], Prose)
    assert section.blocks[0].text.startswith("No teacher was asked: the student learns the gold labels. ")


def test_a_reason_that_names_its_scorer_names_it_once() -> None:
    out_of_reach = ThresholdConfig(objective="share_flagged", share=1e-9)
    report = usual(rows=60, scorers=SCORERS[:2], teacher=False, reasoning=0, threshold=out_of_reach)
    notes = tables(results.sections(report)[0])[0].notes
    (of_student,) = [note for note in notes if note.startswith("Student")]
    assert of_student.count("Student (step 40)") == 1
    assert "no threshold flags any row" in of_student


def test_that_there_are_too_few_groups_is_said_with_what_it_means() -> None:
    few = usual(rows=60, groups=15, scorers=SCORERS[:2], teacher=False, reasoning=0)
    said = " ".join(untested.sentences(few))
    assert "No interval: there are fewer than 6 groups to draw from, so nothing is shown to be better" in said
    assert "fewer than 6 groups" not in " ".join(untested.sentences(usual(rows=60, groups=4)))
    text = " ".join(str(block) for section in document.sections(few) for block in section.blocks)
    assert "fewer than 6 groups" in text
    assert render(few)
    assert page.render(few)


def test_rows_that_the_teacher_did_not_label_are_said_to_count_as_negative() -> None:
    report = full()
    scorers = dict(report.analysis["scorers"])
    scorers["teacher"] = {**scorers["teacher"], "unlabelled": 1}
    notes = tables(results.sections(full(analysis={**report.analysis, "scorers": scorers}))[0])[0].notes
    assert "Teacher: 1 row without a label, which counts as negative." in notes
    assert any(note.endswith("undefined, it gives labels and no probabilities.") for note in notes)
    assert not any("which counts" in note for note in tables(results.sections(report)[0])[0].notes)
