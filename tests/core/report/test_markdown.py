"""The Markdown report is complete, agrees with its inputs, and escapes names."""

from __future__ import annotations

import pytest

from core.config import ThresholdConfig
from core.report.document import ModelBlock
from core.report.render import code, plain, signed
from core.store.run_view import Read
from tests.core.report.making import SCORERS, as_markdown, full, usual


def section(report: str, title: str) -> str:
    return report.split(f"## {title}\n")[1].split("\n## ")[0]


def cells(report: str, title: str, first: str) -> list[str]:
    line = next(r for r in section(report, title).splitlines() if r.startswith(f"| {first} |"))
    return [c.strip() for c in line.strip("|").split(" | ")]


ALL = "All on the same rows of test"


def test_every_scorer_and_metric_is_in_the_table_with_its_interval() -> None:
    report = full()
    text = as_markdown(report)
    for s in report.analysis.scorers.values():
        title = f"**{s.title}**" if s.kind == "student" else s.title
        found = cells(text, ALL, title)
        assert len(found) == 14
        i = s.intervals["accuracy"]
        assert found[3] == f"{i.value:.3f} ({i.low:.3f}–{i.high:.3f})"


def test_an_undefined_metric_is_a_dash_with_its_reason_below() -> None:
    text = as_markdown(full())
    assert cells(text, ALL, "Majority")[4] == "–"
    assert "- Majority: precision undefined, no row was predicted positive." in text
    assert cells(text, ALL, "Teacher")[2] == "–"
    assert "undefined, it gives labels and no probabilities" in section(text, ALL)
    assert "nan" not in text.lower()


def test_the_verdict_names_beaten_scorers_and_undecided_comparisons() -> None:
    verdict = section(as_markdown(full()), "Verdict")
    assert verdict.lstrip().startswith("- By macro-F1 on 300 rows of test, the student beats")
    assert "no difference is shown between it and TF-IDF characters" in verdict
    assert "is better than Untrained student by" in verdict
    assert "The smallest difference that can be shown here" in verdict
    assert "At 0.5, declared before anything was fitted" in verdict


def test_metrics_at_the_default_and_the_chosen_threshold_are_in_one_row() -> None:
    report = full()
    found = cells(as_markdown(report), "At 0.5, declared in advance", "**Student (step 40)**")
    of = report.student
    assert found[1] == f"{of.threshold:.3f}"
    assert found[2:4] == [f"{of.metrics['macro_f1']:.3f}", f"{of.at_default['macro_f1']:.3f}"]


def test_the_threshold_has_its_range_and_reason() -> None:
    report = full()
    text = section(as_markdown(report), "Threshold and calibration")
    moved = report.decisions["student"].threshold_spread
    assert moved is not None
    assert f"| {moved.low:.3f}–{moved.high:.3f} |" in text
    assert "Threshold: largest macro-F1 on 300 rows" in text
    assert "Calibration: platt" in text


def test_markdown_contains_no_texts_and_no_reasoning() -> None:
    secret = "a text that is somebody's own"
    report = usual(rows=60, scorers=SCORERS[:1], teacher=False, texts=[secret] * 60, reasonings=[secret] * 60)
    assert report.mistakes
    assert secret not in as_markdown(report)


def test_curve_slices_faithfulness_seeds_and_cost_are_reported() -> None:
    report = full()
    text = as_markdown(report)
    assert cells(text, "Learning curve on val", "10")[2] == f"{report.curve[10]['macro_f1']:.3f}"
    assert cells(text, "Learning curve on val", "**50**")
    found = report.analysis.slices[0]
    assert cells(text, "Parts of the rows", found.name)[1:3] == [str(found.rows), str(found.positive)]
    assert report.analysis.faithfulness is not None
    f = report.analysis.faithfulness.quotes_that_occur
    of_quotes = cells(text, "Whether the reasoning is true", "quotations that occur in the text")
    assert of_quotes[1] == f"{f.count} of {f.total}"
    assert cells(text, "Other seeds", "`night-seed1`")[1] == "1"
    assert cells(text, "Cost and time", "train")[1] == "340.0"
    assert "US$ 0.81" in text


def test_model_blocks_have_six_decimals_and_come_last() -> None:
    report = full()
    text = as_markdown(report)
    assert "- model_path: `runs/night/final`\n- metrics: not measured in this run" in text
    best = section(text, "best-val model")
    metrics = report.models[1].metrics
    assert metrics is not None
    assert f"- macro_f1: {metrics['macro_f1']:.6f}\n" in best
    assert f"- tp: {metrics['tp']}\n" in best
    assert text.index("## best-val model") > text.index("## Where to look")


def test_missing_data_leaves_no_empty_section() -> None:
    text = as_markdown(
        usual(rows=60, scorers=SCORERS[:1], teacher=False, reasoning=0, files={}, provenance=())
    )
    for title in ("Other seeds", "Where to look", "Versions and digests", "Against the others"):
        assert f"## {title}" not in text
    assert "resume_state_path" not in text


def test_without_a_threshold_the_decisions_are_dashes_with_the_reason() -> None:
    hopeless = ThresholdConfig(objective="share_flagged", share=0.0001)
    text = as_markdown(usual(rows=60, threshold=hopeless, scorers=SCORERS[:2], teacher=False))
    row = cells(text, ALL, "**Student (step 40)**")
    assert (row[1], row[3], row[12]) == ("–", "–", "–")
    assert row[2] != "–"
    assert "no threshold flags any row" in section(text, ALL)
    assert "its decisions were not, apart from those at 0.5" in section(text, "What was not tested")


def test_several_reads_of_test_are_a_warning_in_the_verdict() -> None:
    one = Read("night", "2026-01-02", "step 40")
    text = as_markdown(full(reads=(one, Read("other", "2026-01-03", "step 10"))))
    assert "selects on test" in section(text, "Verdict")
    assert cells(text, "Who has read test", "`other`") == ["`other`", "2026-01-03", "step 10"]
    assert "selects on test" not in as_markdown(full(reads=(one,)))


def test_names_and_notices_break_neither_tables_nor_html() -> None:
    nasty = "<script>alert(1)</script> | a\nb `c` **d**"
    block = ModelBlock(nasty, nasty, None)
    text = as_markdown(full(run_name=nasty, notices=(nasty,), files={nasty: nasty}, models=(block,)))
    assert text.count("# Test report") == 1
    escaped = r"&lt;script&gt;alert(1)&lt;/script&gt; \| a b \`c\` \*\*d\*\*"
    assert f"\n- {escaped}.\n" in text
    assert plain(nasty) == escaped
    assert code("a`b") == "`` a`b ``"
    assert "<script" not in text.replace("``", "").replace(code(nasty).strip("`"), "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (-0.0, "0.000"), (-0.0004, "0.000"), (0.0006, "+0.001"), (-0.25, "-0.250"), (None, "–")],
)
def test_differences_that_round_to_zero_have_no_sign(value: float | None, shown: str) -> None:
    assert signed(value) == shown
