"""JSON files of a run: predictions and metrics of each split, the pointer, the ledger, the cost estimate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from core.cost import TrainingPrice
from core.errors import MissingInputError, StageError, UserError
from core.evaluation.calibration import Calibrator
from core.evaluation.decision import Decision
from core.evaluation.metrics import Metrics
from core.evaluation.predictions import Predictions, at_or_above, optional
from core.intervals import Interval
from core.jsonio import Record, Stored
from core.records import Example, SplitName
from core.results import Ledger, ReinforcementStart, StudentLedger, TeacherTotals
from core.store import Manifest, RunView, Store, pointers
from core.teacher.samples import TeacherLedger

EVEN_ODDS = 0.5
_GROWING = "_of_the_run"
"""The end of the names of counts that grow from one sample stage of a run to the next."""


def write_predictions(
    path: Path, split: SplitName, examples: Sequence[Example], scored: Predictions, decision: Decision
) -> None:
    """Write a JSON array with one record per line for each example, in order; `scored` are not calibrated.

    A record has two labels, which may differ. `predicted` is the decision: the probability against the
    threshold. `pred_label` is the model's own answer: read from the generated text, or, if none was
    generated, the more probable label at the place where the model would write it. One record is in memory at
    a time. Raises StageError if examples and predictions do not match, and ValueError on NaN.
    """
    if len(examples) != len(scored):
        raise StageError(f"{split} has {len(examples)} examples but {len(scored)} were scored")
    with path.open("wb") as f:
        before = b"[\n"
        for record in _records(split, examples, scored, decision):
            try:
                line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
            except UnicodeEncodeError:  # half of a surrogate pair: JSON can escape it, UTF-8 cannot encode it
                line = json.dumps(record, allow_nan=False).encode()
            f.write(before + line)
            before = b",\n"
        f.write(b"\n]\n" if examples else b"[]\n")


def _records(
    split: SplitName, examples: Sequence[Example], scored: Predictions, decision: Decision
) -> Iterator[dict[str, Any]]:
    """Yield records. `predicted` is None without a threshold, and for a row that a server failed on."""
    calibrated, predicted = decision.calibrated(scored).probability, decision.predicted(scored)
    probable, invalid = at_or_above(scored.probability, EVEN_ODDS), scored.invalid
    for i, example in enumerate(examples):
        if example.id != scored.ids[i]:
            raise StageError(f"{split} row {i} is example {example.id}, but {scored.ids[i]} was scored")
        generated, error = scored.generated[i], scored.errors[i]
        own_label, parse_error = generated.label, error
        if generated.text is None:
            own_label = None if invalid[i] else int(probable[i])
        elif not generated.text.strip():
            parse_error = "empty_response"
        else:
            parse_error = "parse_failed" if own_label is None else None
        yield {
            "sample_id": f"{split}_{i}_k0",
            "example_id": example.id,
            "split": split,
            "k_index": 0,
            "text": example.text,
            "gold_label": example.label,
            "raw_output": generated.text,
            "parse_ok": own_label is not None,
            "parse_source": None
            if own_label is None
            else "scored"
            if generated.text is None
            else "generated",
            "pred_label": own_label,
            "reasoning": generated.reasoning,
            "error": parse_error,
            "probability": optional(calibrated[i]),
            "uncalibrated_probability": optional(scored.probability[i]),
            "threshold": decision.threshold,
            "predicted": None if predicted is None or error is not None else int(predicted[i]),
            "outside_mass": float(scored.off_label_mass[i]),
            "valid": not invalid[i],
            "truncated_tokens": int(scored.truncated_tokens[i]),
            "bounded": bool(scored.bounded[i]),
        }


class SplitMetrics(Stored):
    """The content of metrics_<split>.json and metrics_<split>_label_only.json.

    `dataset_fingerprint` is the digest of the split, `config_fingerprint` the key of the measurement.
    """

    created_at: str
    checkpoint_path: str
    split: SplitName
    dataset_fingerprint: str
    config_fingerprint: str
    decision_threshold_rule: str
    decision_threshold: float | None
    decision_threshold_reason: str
    calibration: str
    n: int
    predictions_path: str | None = None
    """None in the label-only mode, which writes no predictions."""
    metrics: Metrics
    intervals: dict[str, Interval] = {}


def file_name(stem: str, *, label_only: bool) -> str:
    """Return the name of a file about one mode of the student: decision.json, manifest_label_only.json."""
    return f"{stem}{'_label_only' if label_only else ''}.json"


def metrics_name(split: SplitName, *, label_only: bool = False) -> str:
    """Return the name of the file with a split's metrics."""
    return file_name(f"metrics_{split}", label_only=label_only)


class Pointer(Record):
    """What `predict --model` needs to find and to reproduce the model. `saved_at` is ISO 8601."""

    saved_at: str
    run_name: str
    final_model_path: str | None
    best_model_path: str
    resume_state_path: str | None
    best_step: int
    threshold: float | None
    """On calibrated probabilities; None if no threshold meets the config's objective."""
    metrics_path: str | None
    run_dir: str
    engine: str
    base_model: str
    """As the config names it."""
    base_digest: str
    """sha256 of its weights and tokenizer, or the server's name for them."""
    target: str
    prompts_digest: str
    threshold_reason: str
    calibrator: Calibrator
    decision_path: str
    """decision.json: how calibrator and threshold were fitted, and how certain the threshold is."""
    bundle_path: str | None = None
    """The folder that `predict` loads; see core.export.bundle."""
    server: str | None = None
    """tinker: where the base model and the checkpoints are."""
    sampler_path: str | None = None
    """tinker: the chosen weights on the server, in addition to the downloaded adapter."""


class ReinforcedPointer(Pointer):
    """The pointer to a student that learned from rewards."""

    phase: Literal["rl"] = "rl"
    start: ReinforcementStart
    best_val_macro_f1: float | None
    final_state_path: str | None


class BaselinePointer(Record):
    """The pointer to a baseline that was published instead of the student, without adapter and engine."""

    saved_at: str
    run_name: str
    run_dir: str
    scorer: str
    title: str
    encoder: str | None
    """As the config names it."""
    threshold: float | None
    """On calibrated probabilities; None if no threshold meets the config's objective."""
    threshold_reason: str
    calibrator: Calibrator
    decision_path: str
    bundle_path: str


STUDENT_POINTER = "student_phase/pointer.json"


def student_pointer(view: RunView) -> Pointer:
    """Return the pointer to a run's own student. Raises MissingInputError if the run never published one."""
    if (found := view.read(STUDENT_POINTER)) is None:
        raise MissingInputError(
            f"run {view.name} has no {view.where(STUDENT_POINTER)}: run its config again, which publishes "
            "its student"
        )
    return Pointer.from_json(json.loads(found), view.where(STUDENT_POINTER))


class PointerStart(Record):
    """What reinforcement reads of the pointer to its start, also of version 0.1."""

    run_dir: str
    best_step: int
    engine: str
    base_digest: str
    prompts_digest: str
    phase: str | None = None
    """The value `rl` marks a student that was reinforced already."""


def read_start(store: Store, name: str) -> PointerStart | None:
    """The pointer of a run to reinforce; None if it does not exist. Raises StoreError if it is damaged."""
    found = pointers.read(store, name)
    if found is not None and "scorer" in found:
        published = BaselinePointer.from_json(found, store.where(f"model/{name}.json"))
        raise UserError(
            f"model/{name}.json is a baseline ({published.scorer}), which cannot be reinforced; publish the "
            f"student again with `understudy publish --run {name} --scorer student`"
        )
    return None if found is None else PointerStart.from_json(found, store.where(f"model/{name}.json"))


class _Usage(Record):
    """Tokens that a server bills, in a stage's summary."""

    prefilled_tokens: int = 0
    sampled_tokens: int = 0
    requests: int = 0


class _Billed(Record):
    """What is read of the summaries of stages that train or ask a student."""

    tokens: int = 0
    usage: _Usage | None = None


def ledger(teacher: Sequence[TeacherLedger], student: StudentLedger, seconds: Mapping[str, float]) -> Ledger:
    """Return the ledger of a run; `teacher` has the ledger of each sample stage, if one was asked."""
    added = teacher_ledger(teacher)
    dollars = (student.usd, None if added is None else added.usd_of_the_run)
    spent = [part for part in dollars if part is not None]
    usd = round(sum(spent), 6) if spent else None
    return Ledger(usd=usd, teacher=added, student=student, seconds=dict(seconds))


def teacher_ledger(stages: Sequence[TeacherLedger]) -> TeacherTotals | None:
    """Return the sum of the sample stages' ledgers; None without any.

    Counts of the run so far are taken once from each run, from the stage where they are largest: it was made
    last. All others are a stage's own and are added. Money is None if it is None for one of them.
    """
    if not stages:
        return None
    last = {each.run: each for each in sorted(stages, key=lambda each: each.requests_of_the_run)}
    added: dict[str, Any] = {}
    for name in (name for name in TeacherLedger.model_fields if name != "run"):
        values = [getattr(each, name) for each in (last.values() if name.endswith(_GROWING) else stages)]
        if all(isinstance(value, Mapping) for value in values):
            added[name] = dict(sum(map(Counter, values), Counter()).most_common())
        else:
            added[name] = None if None in values else round(sum(values), 6)
    return TeacherTotals(runs=tuple(sorted(last)), **added)


def student_ledger(
    segments: Iterable[Manifest], measured: Iterable[Manifest], price: TrainingPrice | None
) -> StudentLedger:
    """Return the tokens of all segments and measurements, and US dollars if a server bills by a known price.

    Prompts are counted whole, though a server may have had their beginnings in its cache.
    """
    used = [_Billed.from_json(m.summary, m.path).usage or _Usage() for m in measured]
    trained = sum(_Billed.from_json(m.summary, m.path).tokens for m in segments)
    prefilled = sum(each.prefilled_tokens for each in used)
    sampled = sum(each.sampled_tokens for each in used)
    counts = {"trained_tokens": trained, "prefilled_tokens": prefilled, "sampled_tokens": sampled}
    requests, usd = sum(each.requests for each in used), None
    if price is not None:
        usd = round(price.usd(trained, prefilled, sampled), 6)
    return StudentLedger(**counts, requests=requests, usd=usd)
