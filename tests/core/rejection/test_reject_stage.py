"""The reject stage sorts answers into files and reports what the rules took, and from which label."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import jsonio, locations
from core.config import RULES, PromptsConfig, RejectionConfig, RulesConfig, TeacherConfig
from core.errors import ConfigError, StageError, UserError
from core.records import AcceptedSample, Example, text_id, write_examples
from core.rejection import stage
from core.rejection.stage import AcceptedReasonings, read_accepted
from core.rulebook import plain
from core.stage import StageIO
from core.teacher import stage as sample_stage

REPO = Path(__file__).resolve().parents[3]
TEXTS = [Example("a", "A", 1), Example("b", "B", 0), Example("c", "C", 1), Example("d", "D", 0)]
LONG = "long enough to be worth learning"


def raw(name: str, label: int, reasoning: str = LONG, **more: Any) -> dict[str, Any]:
    return {"id": name, "raw_output": json.dumps({"reasoning": reasoning, "label": label}), **more}


def sampled(
    tmp_path: Path, answers: list[dict[str, Any]], texts: list[Example] = TEXTS, **teacher: Any
) -> StageIO:
    for name in ("split", "rules", "sample", "out"):
        (tmp_path / name).mkdir(exist_ok=True)
    write_examples(tmp_path / "split/train.csv", texts)
    (tmp_path / "rules/a.txt").write_text("R1 one")
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))
    (tmp_path / "p.yaml").write_text(
        "task_instruction: T\nteacher_user: '{{ text }}'\nstudent_user: '{{ text }}'"
    )
    config = {"answers": str(tmp_path / "answers.jsonl"), **teacher}
    settings = sample_stage.SampleSettings(
        teacher=TeacherConfig.model_validate(config),
        rules=RulesConfig(dir=str(tmp_path / "rules")),
        prompts=PromptsConfig(file=str(tmp_path / "p.yaml")),
    )
    inputs = {"split": tmp_path / "split", "sample": tmp_path / "sample"}
    sample_stage.sample(settings, StageIO(inputs, tmp_path / "sample"))
    return StageIO(inputs, tmp_path / "out")


def reject(tmp_path: Path, io: StageIO, *rules: Any, keep: int = 1) -> dict[str, Any]:
    config = RejectionConfig.model_validate({"rules": rules} if rules else {})
    where = RulesConfig(dir=str(tmp_path / "rules"))
    return stage.reject(stage.RejectSettings(rejection=config, rules=where, keep=keep), io)


def rows(io: StageIO, name: str) -> list[dict[str, Any]]:
    return list(jsonio.read_jsonl(io.out / name))


ANSWERS = [
    raw("a", 0, sample=0), raw("a", 1, sample=1), raw("b", 0), raw("c", 1, "short"),
    {"id": "d", "raw_output": "?"},
]  # fmt: skip


def test_accepted_and_rejected_answers_are_in_row_and_sample_order(tmp_path: Path) -> None:
    io = sampled(tmp_path, ANSWERS)
    reject(tmp_path, io)
    assert list(read_accepted(io.out / "accepted_samples.jsonl")) == [
        AcceptedSample("a_k1", "a", "A", 1, LONG),
        AcceptedSample("b_k0", "b", "B", 0, LONG),
    ]
    assert [(r["sample_id"], r["reject_reason"]) for r in rows(io, "rejected_samples.jsonl")] == [
        ("a_k0", "label_mismatch"), ("c_k0", "too_short"), ("d_k0", "unparsed"),
    ]  # fmt: skip


def test_rejected_row_has_every_verdict_and_the_first_is_the_reason(tmp_path: Path) -> None:
    io = sampled(tmp_path, [raw("a", 0, "short"), *ANSWERS[1:]])
    reject(tmp_path, io, "too_short", "label_mismatch")
    row = rows(io, "rejected_samples.jsonl")[0]
    assert row["reject_reason"] == "too_short"
    assert [(v["rule"], v["rejected"]) for v in row["verdicts"]] == [
        ("too_short", True),
        ("label_mismatch", True),
    ]
    assert row["raw_output"]


def test_the_summary_keeps_the_predecessors_fields_and_adds_the_funnel(tmp_path: Path) -> None:
    io = sampled(tmp_path, ANSWERS)
    summary = reject(tmp_path, io)
    assert summary == jsonio.read_json(io.out / "teacher_summary.json")
    assert {k: summary[k] for k in ("requested_samples", "accepted_samples", "rejected_samples")} == {
        "requested_samples": 5, "accepted_samples": 2, "rejected_samples": 3,
    }  # fmt: skip
    assert (summary["acceptance_rate"], summary["example_acceptance_rate"]) == (0.4, 0.5)
    assert summary["parse_sources"] == {"json": 4, "none": 1}
    assert summary["funnel"]["texts"]["by_reason"] == {
        "too_short": {"0": 0, "1": 1}, "unparsed": {"0": 1, "1": 0},
    }  # fmt: skip
    assert summary["unusable"] is None
    stage.ensure_usable(summary)


def test_one_answer_per_text_is_kept_by_default(tmp_path: Path) -> None:
    answers = [raw("a", 1, sample=0), raw("a", 1, sample=1), raw("a", 1, sample=2), raw("b", 0)]
    io = sampled(tmp_path, answers, keep=3)
    reject(tmp_path, io)
    assert [r["sample_id"] for r in rows(io, "accepted_samples.jsonl")] == ["a_k0", "b_k0"]
    assert [r["reject_reason"] for r in rows(io, "rejected_samples.jsonl")] == ["surplus", "surplus"]
    reject(tmp_path, io, keep=2)
    assert [r["sample_id"] for r in rows(io, "accepted_samples.jsonl")] == ["a_k0", "a_k1", "b_k0"]


def test_only_accepted_reasonings_count_as_repeated(tmp_path: Path) -> None:
    io = sampled(tmp_path, [raw("a", 0), raw("b", 0), raw("c", 1), raw("d", 0, LONG + "!")])
    reject(tmp_path, io, "label_mismatch", "repeats")
    assert [(r["sample_id"], r["reject_reason"]) for r in rows(io, "rejected_samples.jsonl")] == [
        ("a_k0", "label_mismatch"), ("c_k0", "repeats"),
    ]  # fmt: skip


UNUSABLE = [
    (
        [raw("a", 0), raw("b", 1), {"id": "c", "raw_output": "?"}],
        "no answer to the 3 answered texts was accepted, most often because of label_mismatch (2 texts); "
        "a student needs both labels: read rejected_samples.jsonl, then record more answers to them "
        "(a further sample, or one that saw the gold label, marked hinted: true), correct the rules where "
        "they are misread, or set teacher.parse.labels if the teacher names the labels differently",
    ),
    (
        [raw("a", 1, "short"), raw("b", 0), raw("c", 0)],
        "of the 2 answered texts with gold label 1 none was accepted, most often because of too_short "
        "(1 texts); a student needs both labels: read rejected_samples.jsonl, then lower min_chars of "
        "too_short in rejection.rules, or record more answers to them (a further sample, or one that saw the "
        "gold label, marked hinted: true)",
    ),
    (
        [raw("b", 0)],
        "of the 0 answered texts with gold label 1 none was accepted, since the teacher answered none; "
        "a student needs both labels",
    ),
]


@pytest.mark.parametrize(("answers", "sentence"), UNUSABLE)
def test_unusable_answers_are_written_before_the_stage_fails(
    tmp_path: Path, answers: list[dict[str, Any]], sentence: str
) -> None:
    io = sampled(tmp_path, answers)
    summary = reject(tmp_path, io)
    assert len(rows(io, "rejected_samples.jsonl")) + len(rows(io, "accepted_samples.jsonl")) == len(answers)
    with pytest.raises(StageError) as e:
        stage.ensure_usable(summary)
    assert str(e.value) == sentence


def test_constant_teacher_is_rejected(tmp_path: Path) -> None:
    summary = reject(tmp_path, sampled(tmp_path, [raw(n, 0) for n in "abcd"]), "too_short")
    assert summary["unusable"].startswith("all accepted answers say 0, whatever the gold label; ")


def test_skewed_rejection_is_reported_in_the_summary_and_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = [Example(f"t{i}", "T", i % 2) for i in range(40)]
    io = sampled(tmp_path, [raw(e.id, int(e.id == "t1")) for e in many], texts=many)
    summary = reject(tmp_path, io)
    (notice,) = summary["notices"]
    assert notice.startswith(
        "rejection takes more positive texts than negative ones: of the former 1 of 20 (5.0%) were accepted, "
    )
    assert "Most of it is label_mismatch, which took 19 of the former and 0 of the latter: " in notice
    assert (summary["skew"]["label"], summary["skew"]["said"]) == ("1", notice)
    with caplog.at_level("WARNING"):
        stage.ensure_usable(summary)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", notice)]


def test_even_rejection_gives_no_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    many = [Example(f"t{i}", "T", i % 2) for i in range(40)]
    summary = reject(tmp_path, sampled(tmp_path, [raw(e.id, e.label) for e in many], texts=many))
    assert (summary["skew"], summary["notices"]) == (None, [])
    with caplog.at_level("WARNING"):
        stage.ensure_usable(summary)
    assert caplog.records == []


def test_rules_that_need_ids_are_rejected_before_any_request(tmp_path: Path) -> None:
    sampled(tmp_path, ANSWERS)
    (tmp_path / "rules/a.txt").write_text("Be kind.")
    config = RejectionConfig.model_validate({"rules": ["no_rule_cited"]})
    settings = stage.RejectSettings(rejection=config, rules=RulesConfig(dir=str(tmp_path / "rules")))
    with pytest.raises(
        ConfigError, match=r"rejection\.rules has no_rule_cited, but no rule of the rulebook has"
    ):
        stage.content(settings)


def test_answers_to_another_split_are_rejected(tmp_path: Path) -> None:
    io = sampled(tmp_path, ANSWERS)
    write_examples(tmp_path / "split/train.csv", TEXTS[1:])
    with pytest.raises(StageError, match="answers id 'a', which train does not hold in this place"):
        reject(tmp_path, io)


def test_395_of_400_quickstart_answers_are_accepted(
    tmp_path: Path,
) -> None:
    try:
        table = locations.packaged_path("package://textdescriptives/textdescriptives/data/spam.csv")
    except UserError as e:
        pytest.skip(str(e))
    with table.open(encoding="latin-1", newline="") as f:
        texts = {text_id(row[1]): row for row in csv.reader(f)}
    answers = REPO / "dataset/sms/teacher_answers.jsonl"
    ids = [row["id"] for row in jsonio.read_jsonl(answers)]
    train = [Example(i, texts[i][1], int(texts[i][0] == "spam")) for i in ids]
    io = sampled(tmp_path, ANSWERS)
    write_examples(tmp_path / "split/train.csv", train)
    settings = sample_stage.SampleSettings(
        teacher=TeacherConfig(answers=str(answers)),
        rules=RulesConfig(dir=str(REPO / "rules/sms")),
        prompts=PromptsConfig(file=str(REPO / "prompts/sms.yaml")),
    )
    sample_stage.sample(settings, StageIO(io.inputs, tmp_path / "sample"))
    every = RejectionConfig.model_validate({"rules": tuple(RULES)})
    summary = stage.reject(stage.RejectSettings(rejection=every, rules=settings.rules), io)
    assert (summary["requested_samples"], summary["accepted_samples"]) == (400, 395)
    rejected = [v for row in rows(io, "rejected_samples.jsonl") for v in row["verdicts"] if v["rejected"]]
    assert {v["rule"] for v in rejected} == {"label_mismatch"}


def test_recorded_run_on_answers_pass_the_same_stages(real_data: Path, tmp_path: Path) -> None:
    with (real_data / "fpb_opinionated/data.csv").open(encoding="utf-8", newline="") as f:
        texts = [Example(r["id"], r["text"], int(r["label"])) for r in csv.DictReader(f)]
    io = sampled(tmp_path, ANSWERS)
    write_examples(tmp_path / "split/train.csv", texts)
    parse = {"label_pattern": r"^\W*(?P<label>\w+)", "labels": {"neutral": 0, "positive": 1, "negative": 1}}
    answers = str(real_data / "fpb_opinionated/teacher/gpt-4.jsonl")
    settings = sample_stage.SampleSettings(
        teacher=TeacherConfig.model_validate({"answers": answers, "parse": parse}),
        rules=RulesConfig(dir=str(REPO / "rules/fpb")),
        prompts=PromptsConfig(file=str(REPO / "prompts/fpb.yaml")),
    )
    sample_stage.sample(settings, StageIO(io.inputs, tmp_path / "sample"))
    summary = stage.reject(stage.RejectSettings(rejection=RejectionConfig(), rules=settings.rules), io)
    assert (summary["requested_samples"], summary["missing"]) == (1118, 0)
    assert summary["acceptance_rate"] == pytest.approx(0.940, abs=5e-4)
    assert set(summary["funnel"]["answers"]["by_reason"]) == {"label_mismatch"}


def test_hinted_answer_that_reveals_its_label_is_rejected_by_default(tmp_path: Path) -> None:
    leak = "Since the gold label was provided, R1 has to apply here."
    answers = [
        raw("a", 1, leak, hinted=True), raw("b", 0), raw("c", 1, leak), raw("d", 0, hinted=True),
    ]  # fmt: skip
    io = sampled(tmp_path, answers)
    summary = reject(tmp_path, io)
    assert [r["example_id"] for r in rows(io, "accepted_samples.jsonl")] == ["b", "c", "d"]
    (row,) = rows(io, "rejected_samples.jsonl")
    assert (row["example_id"], row["reject_reason"]) == ("a", "reveals_label")
    assert summary["funnel"]["texts"]["by_reason"] == {"reveals_label": {"0": 0, "1": 1}}


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKD"])
def test_quotation_in_another_unicode_form_is_accepted(tmp_path: Path, form: Any) -> None:
    texts = [
        Example("a", "Gagnez un caf\u00e9 gratuit \u00e0 No\u00ebl", 1),
        Example("b", "see you at lunch", 0),
    ]
    texts = [Example(e.id, unicodedata.normalize(form, e.text), e.label) for e in texts]
    answers = [
        raw("a", 1, 'It says "cafe\u0301 gratuit" and "\u00e0 No\u00ebl" [R1].'),
        raw("b", 0, 'It says "see you" [R1].'),
    ]
    io = sampled(tmp_path, answers, texts)
    reject(tmp_path, io, "quote_not_in_text", "unparsed")
    assert [r["example_id"] for r in rows(io, "accepted_samples.jsonl")] == ["a", "b"]


REASONINGS = st.lists(st.sampled_from(["a", " A ", "a  b", "A\tb", "ß", "ss", ""]) | st.text(max_size=3))


@given(REASONINGS)
def test_accepted_reasonings_are_counted_by_their_plain_form(reasonings: list[str]) -> None:
    seen = Counter[str]()
    with closing(AcceptedReasonings()) as remembered:
        for reasoning in reasonings:
            assert remembered.times(reasoning) == seen[plain(reasoning)]
            remembered.add(reasoning)
            seen[plain(reasoning)] += 1


def test_accepted_reasonings_beyond_the_cache_are_remembered() -> None:
    with closing(AcceptedReasonings(cache_kb=100)) as remembered:
        for n in range(20_000):
            remembered.add(f"reason {n}")
        assert all(remembered.times(f"Reason {n}") == 1 for n in range(0, 20_000, 7))
        assert remembered.times("reason 20000") == 0
