"""The report: complete, true to its inputs, and unbroken by names."""

from __future__ import annotations

from core.evaluation.metrics import value
from core.export.inputs import Entry, ModelBlock, ReportInputs
from core.export.markdown import code, plain
from core.export.report import render
from tests.core.export.making import constant, entry, inputs, metrics

BY_STEP = {0: 30, 10: 90, 20: 95}


def usual(**changed: object) -> ReportInputs:
    entries = [
        Entry("Majority", "baseline", constant()),
        entry("TF-IDF words", "baseline", 90),
        entry("TF-IDF characters", "baseline", 97),
        entry("Untrained student", "untrained", 30),
        entry("Student, step 20", "student", 95),
        entry("Label only", "label_only", 93),
        entry("Last step", "final", 99),
    ]
    return inputs(entries, BY_STEP, **changed)


def section(report: str, title: str) -> str:
    return report.split(f"## {title}")[1].split("\n## ")[0]


def cells(report: str, title: str, first: str) -> list[str]:
    line = next(r for r in section(report, title).splitlines() if r.startswith(f"| {first} |"))
    return [c.strip() for c in line.strip("|").split(" | ")]


def test_a_winning_baseline_stands_in_the_verdict() -> None:
    verdict = section(render(usual()), "Verdict")
    assert "By macro-F1 on test, TF-IDF characters has the best value" in verdict
    assert "A baseline beats the student" in verdict
    assert "Training took macro-F1 on test from" in verdict


def test_every_entry_and_every_metric_is_in_the_table() -> None:
    report, wanted = render(usual()), metrics(95)
    found = cells(report, "All on the same rows of test", r"**Student, step 20**")
    names = "auroc auprc macro_f1 balanced_accuracy accuracy precision recall mcc log_loss brier"
    numbers = [value(wanted, name) for name in [*names.split(), "invalid_label_rate"]]
    assert found[1:] == [f"{v:.4f}" for v in numbers] + ["0.5000"]
    for title in ("Majority", "TF-IDF words", "Untrained student", "Label only", "Last step"):
        assert len(cells(report, "All on the same rows of test", title)) == 13


def test_an_undefined_metric_is_a_dash_with_its_reason_below() -> None:
    report = render(usual())
    assert cells(report, "All on the same rows of test", "Majority")[6] == "–"
    assert "- Majority: precision undefined, no row was predicted positive." in report
    assert "nan" not in report.lower()


def test_confusion_counts_and_curve_are_those_of_the_inputs() -> None:
    report, m = render(usual()), metrics(97)
    table = section(report, "All on the same rows of test").split("Counts of the decisions:")[1]
    assert f"| TF-IDF characters | {m.tp} | {m.fp} | {m.fn} | {m.tn} |" in table
    assert cells(report, "Learning curve on val", "0")[:3] == ["0", "–", f"{metrics(30).macro_f1:.4f}"]
    assert cells(report, "Learning curve on val", "**20**")[1] == "0.2500"


def test_the_funnel_is_by_gold_label() -> None:
    report = render(usual())
    title = "From train texts to accepted answers"
    assert cells(report, title, r"rejected: label\_mismatch")[1:] == ["2", "3", "5"]
    assert cells(report, title, "without an answer")[3] == "4"
    assert cells(report, title, "Share accepted")[1:] == ["0.983", "0.969", "0.978"]


def test_what_is_absent_leaves_no_empty_section() -> None:
    report = render(usual(funnel=None))
    for title in ("From train texts", "## Time", "## Where to look", "resume_state_path"):
        assert title not in report
    assert "accepted answers" not in report


def test_the_predecessors_blocks_have_six_decimals_and_macro_f1() -> None:
    models = (ModelBlock("final model", "runs/f", None), ModelBlock("best-val model", "runs/b", metrics(95)))
    report = render(usual(models=models))
    assert "- model_path: `runs/f`\n- metrics: not measured in this run" in report
    best = section(report, "best-val model")
    assert f"- macro_f1: {metrics(95).macro_f1:.6f}\n" in best
    assert f"- tp: {metrics(95).tp}\n" in best


def test_the_limits_say_what_one_row_weighs_and_that_there_are_no_intervals() -> None:
    limits = section(render(usual()), "Limits")
    assert "test has 100 rows, 20 of them positive" in limits
    assert "recall by 0.0500 and accuracy by 0.0100" in limits
    assert "no intervals" in limits


def test_a_report_of_another_split_says_that_test_was_not_exported() -> None:
    report = render(usual(split="val"))
    assert "Test was not exported: the table is of val, which was used for choosing." in report


def test_an_untrained_winner_is_said_so() -> None:
    report = render(inputs([entry("Student", "student", 95)], {0: 95, 10: 90}))
    assert "No trained checkpoint beats the untrained model on val" in report


def test_names_and_notices_break_neither_tables_nor_html() -> None:
    nasty = "<script>alert(1)</script> | a\nb `c` **d**"
    report = render(usual(run_name=nasty, notices=(nasty,), base_model=nasty, files={nasty: nasty}))
    assert cells(report, "What was run", "Base model")[1].count("``") == 2
    assert report.count("# Test report") == 1
    escaped = r"&lt;script&gt;alert(1)&lt;/script&gt; \| a b \`c\` \*\*d\*\*"
    assert f"\n- {escaped}\n" in report
    assert plain(nasty) == escaped
    assert code("a`b") == "`` a`b ``"
