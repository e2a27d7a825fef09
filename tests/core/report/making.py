"""Reports of synthetic rows whose statistics are computed, not written by hand."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.config import CalibrationConfig, Config, ThresholdConfig
from core.errors import Failures, strict
from core.evaluation.analysis import Kind, Scored, measure_scorers
from core.evaluation.calibration import Calibrator
from core.evaluation.decision import Decided, Decision, fit_decision, select
from core.evaluation.metrics import compute
from core.evaluation.predictions import Bools, Generated, Predictions
from core.records import Example, SplitName
from core.rejection.funnel import FunnelCounter, Hardness, TeacherSummary, skew
from core.report.document import ModelBlock, Picture, ReportData, SeedResult, run_report
from core.report.render import render_markdown, render_page
from core.report.scorer_sections import worst
from core.results import Ledger, SplitSize, StudentLedger, TeacherTotals
from core.store.run_view import Read
from core.teacher.samples import Agreement, FirstAnswers

RULES = ("R1", "R2", "R3")
THRESHOLD, CALIBRATION = ThresholdConfig(), CalibrationConfig(method="platt")
_WORDS = ("win a prize now", "see you at eight", "claim your award", "call me back", "the meeting moved")


def gold(n: int, seed: int, share: float = 0.25) -> Bools:
    rng = np.random.default_rng(seed)
    y = np.zeros(n, dtype=np.bool_)
    y[: max(1, round(share * n))] = True
    rng.shuffle(y)
    return y


def examples(split: str, positive: Bools, group_of: int = 0) -> list[Example]:
    """Rows with texts of several lengths; `group_of` rows to a group, 0 for none."""
    return [
        Example(
            f"{split}-{i}",
            " ".join(_WORDS[(i + k) % len(_WORDS)] for k in range(1 + i % 9)),
            int(y),
            f"sender {i // group_of}" if group_of else None,
        )
        for i, y in enumerate(positive)
    ]


def scored(
    rows: Sequence[Example], *, apart: float, seed: int, reasoning: int = 0, spread: float = 1.6
) -> Predictions:
    """Probabilities whose log odds differ by `apart` between classes; the first `reasoning` rows explain."""
    rng = np.random.default_rng(seed)
    y = np.array([e.label for e in rows])
    p = 1 / (1 + np.exp(-rng.normal(apart * (y - 0.5) - 0.6, spread)))
    generated = [
        _answer(e, float(q), i) if i < reasoning else Generated()
        for i, (e, q) in enumerate(zip(rows, p, strict=True))
    ]
    return Predictions.of(
        [e.id for e in rows], p, gold=[e.label for e in rows], off_label_mass=0.01, generated=generated
    )


def _answer(example: Example, p: float, i: int) -> Generated:
    quote = example.text.split()[0] if i % 7 else "nowhere"
    said = f'The words "{quote}" matter, so R{1 + i % 4} applies.'
    label = int(p >= 0.5)
    return Generated(f"<label>{label}</label> {said}", said, label)


def frozen(decided: Decided) -> Decision:
    return Decision(decided.calibrator, decided.threshold.value, decided.threshold.reason)


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A scorer of the synthetic run; `apart` as in `scored`."""

    name: str
    title: str
    kind: Kind
    apart: float


SCORERS = (
    Scorer("student", "Student (step 40)", "student", 4.6),
    Scorer("untrained", "Untrained student", "untrained", 0.8),
    Scorer("tfidf_words", "TF-IDF words", "baseline", 3.4),
    Scorer("tfidf_chars", "TF-IDF characters", "baseline", 4.6),
    Scorer("label_only", "Student (step 40, label-only prompt)", "label_only", 4.0),
)


def teacher_summary(seed: int = 3, *, skewed: bool = True) -> TeacherSummary:
    """A teacher that is wrong more often on positives, so that more of them are rejected."""
    rng = np.random.default_rng(seed)
    counter, first = FunnelCounter(), dict.fromkeys(("tp", "fn", "fp", "tn", "unread"), 0)
    for i in range(400):
        y = int(i % 3 == 0)
        if i % 90 == 0:
            counter.text(y, [], [])
            continue
        right = rng.random() > (0.3 if y and skewed else 0.04)
        said = y if right else 1 - y
        first[{(1, 1): "tp", (1, 0): "fn", (0, 1): "fp", (0, 0): "tn"}[y, said]] += 1
        reason = None if right else "label_mismatch"
        counter.text(y, [said], ["too_short" if right and i % 40 == 0 else reason])
    funnel = counter.funnel()
    found = skew(funnel.texts, live=True)
    answers, texts = funnel.answers, funnel.texts
    return TeacherSummary(
        teacher_model="deepseek-chat",
        teacher_kind="openai",
        requested_samples=answers.total,
        accepted_samples=answers.accepted,
        rejected_samples=answers.total - answers.accepted,
        acceptance_rate=answers.accepted / answers.total,
        examples=400,
        accepted_examples=texts.accepted,
        example_acceptance_rate=texts.accepted / texts.total,
        missing=400 - texts.total,
        unknown_ids=0,
        models={"deepseek-chat": answers.total},
        parse_sources={"json": answers.total},
        parse_errors={},
        finish_reasons={"stop": answers.total},
        first_answers=FirstAnswers(**first),
        agreement=Agreement().summary(until_right=True),
        funnel=funnel,
        hard=Hardness(texts=0, unanswered=0, by_label={}, difference=texts.difference),
        skew=found,
        unusable=None,
        notices=(),
    )


def usual(
    *,
    rows: int = 300,
    groups: int = 0,
    scorers: Sequence[Scorer] = SCORERS,
    teacher: bool = True,
    reasoning: int = 120,
    threshold: ThresholdConfig = THRESHOLD,
    resamples: int = 400,
    texts: Sequence[str] = (),
    reasonings: Sequence[str] = (),
    split: SplitName = "test",
    **changed: Any,
) -> ReportData:
    """A run with every section. `texts` and `reasonings` replace those of the first test rows."""
    val, test = (examples(name, gold(rows, k), groups) for k, name in enumerate(("val", "test")))
    test = [dataclasses.replace(e, text=t) for e, t in zip(test, texts, strict=False)] + test[len(texts) :]
    made: list[Scored] = []
    decisions: dict[str, Any] = {}
    for k, s in enumerate(scorers):
        decided = fit_decision(
            scored(val, apart=s.apart, seed=10 + k), threshold, CALIBRATION, [e.group for e in val]
        )
        found = scored(test, apart=s.apart, seed=20 + k, reasoning=reasoning if k == 0 else 0)
        if k == 0:
            found = _with(found, reasonings)
        decisions[s.name] = decided
        made.append(Scored(s.name, s.title, found, frozen(decided), kind=s.kind))
    if scorers is SCORERS:
        constant = Predictions.of([e.id for e in test], [0.25] * len(test), gold=[e.label for e in test])
        by_definition = Decision(Calibrator.identity("a threshold by definition"), 0.5, "by definition")
        made.append(Scored("majority", "Majority", constant, by_definition))
    if teacher:
        labels = {e.id: e.label if i % 14 else 1 - e.label for i, e in enumerate(test)}
        made.append(Scored("teacher", "Teacher", None, None, labels, "teacher"))
    first = made[0]
    assert first.decision is not None
    assert first.predictions is not None
    given: dict[str, Any] = {
        "run_name": "night",
        "generated_at": "2026-01-02T03:04:05+00:00",
        "config": config(threshold),
        "analysis": measure_scorers(split, test, made, RULES, resamples=resamples),
        "decisions": decisions,
        "mistakes": worst(test, first.predictions, first.decision, RULES),
        "sizes": {
            "train": SplitSize(rows=400, positive=134),
            "val": SplitSize(rows=rows, positive=rows // 4),
            "test": SplitSize(rows=rows, positive=rows // 4),
        },
        "teacher": teacher_summary(),
        "ledger": ledger(),
        "models": (
            ModelBlock("final model", "runs/night/final", None),
            ModelBlock("best-val model", "runs/night/best", compute(first.predictions, 0.5)),
        ),
        "reads": (Read("night", "2026-01-02T03:04:05+00:00", "step 40"),),
        "provenance": (("understudy", "0.1.0"), ("commit", "c" * 40), ("data", "d" * 64)),
        "files": {"student_phase/test.json": "what the student says of each test text"},
        "notices": ("3 rows of the data were left out: no label",),
        **curve(val),
        **changed,
    }
    return ReportData(**given)


def config(threshold: ThresholdConfig) -> Config:
    """The config of a run with seed 7 and Platt calibration."""
    student = {"model": "package://a/b.gguf", "target": "label_first", "rulebook": False}
    evaluation = {"threshold": threshold, "calibration": CALIBRATION}
    return Config.model_validate(
        {
            "seed": 7,
            "data": {"path": "texts.csv"},
            "teacher": {"answers": "answers.jsonl"},
            "student": student,
            "evaluation": evaluation,
        }
    )


def _with(rows: Predictions, reasonings: Sequence[str]) -> Predictions:
    named = [
        dataclasses.replace(generated, reasoning=text)
        for generated, text in zip(rows.generated, reasonings, strict=False)
    ]
    return dataclasses.replace(rows, generated=(*named, *rows.generated[len(named) :]))


def curve(val: Sequence[Example]) -> dict[str, Any]:
    """Metrics on val by step, losses, and baselines on val."""
    by_step = {step: scored(val, apart=0.8 + step / 10, seed=30 + step) for step in (0, 10, 20, 30, 40, 50)}
    measured = {step: compute(rows, 0.4) for step, rows in by_step.items()}
    losses = [(step, 1.2 / (1 + step / 15) + 0.05 * (step % 3)) for step in range(1, 51)]
    return {
        "selection": select(measured, "macro_f1"),
        "curve": measured,
        "losses": losses,
        "val_baselines": {"TF-IDF words": compute(scored(val, apart=3.4, seed=50), 0.4)},
    }


def ledger(usd: float | None = 0.81) -> Ledger:
    teacher = TeacherTotals(
        runs=("night",),
        usd_of_the_run=0.81,
        requests_of_the_run=455,
        prompt_tokens_of_the_run=512_300,
        cached_tokens_of_the_run=410_000,
        completion_tokens_of_the_run=61_200,
    )
    student = StudentLedger(
        trained_tokens=88_000, prefilled_tokens=610_000, sampled_tokens=9_000, requests=1_200, usd=None
    )
    seconds = {"split": 0.4, "reject": 0.2, "encode": 3.1, "train": 340.0, "evaluate": 122.5, "export": 71.0}
    return Ledger(usd=usd, teacher=teacher, student=student, seconds=seconds)


def other_seeds() -> tuple[SeedResult, ...]:
    rows = examples("test", gold(300, 1))
    return tuple(
        SeedResult(f"night-seed{s}", s, compute(scored(rows, apart=4.4, seed=60 + s), 0.5)) for s in (1, 2)
    )


@functools.cache
def _full() -> ReportData:
    return usual(seeds=other_seeds())


def full(**changed: Any) -> ReportData:
    """A run with every section and other seeds, built once unless `texts` or `reasonings` are given."""
    made = {name: changed.pop(name) for name in ("texts", "reasonings") if name in changed}
    report = usual(seeds=other_seeds(), **made) if made else _full()
    return dataclasses.replace(report, **changed)


def as_markdown(data: ReportData, failures: Failures | None = None) -> str:
    """The report as Markdown; without `failures`, errors are raised."""
    failures = failures if failures is not None else strict()
    return render_markdown(run_report(data, failures), failures)


def as_page(data: ReportData, failures: Failures | None = None, *, pictures: bool = True) -> str:
    """The report as a page; without `failures`, errors are raised. Drawing its pictures takes seconds."""
    failures = failures if failures is not None else strict()
    document = run_report(data, failures)
    if not pictures:
        sections = [
            dataclasses.replace(s, blocks=[b for b in s.blocks if not isinstance(b, Picture)])
            for s in document.sections
        ]
        document = dataclasses.replace(document, sections=sections)
    return render_page(document, failures)


@functools.cache
def full_page() -> str:
    """The page of `full()`, drawn once."""
    return as_page(full())
