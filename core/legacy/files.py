"""Every file that the predecessor left or read: where its like is here. One row a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    """A file, the file here (empty: there is none), and what is otherwise or takes its place."""

    name: str
    here: str = ""
    said: str = ""


_RL = "rl_history.jsonl, rollouts.jsonl, eval_history.jsonl, predictions and rl_report.md in it"
_SAME = "the same"
_PREDICTIONS = "rows have the example's id, probability, threshold and decision besides"

_FILES = (
    File(
        "dataset/<name>/<name>_<split>.csv",
        _SAME,
        "and its three other layouts; valid and validation are val",
    ),
    File(
        "dataset/<name>/train_with_hard_tag.csv",
        "data_splits/train_with_hard_tag.csv",
        "in the run's folder alone: data are never written to",
    ),
    File("rules/<name>/*.txt", _SAME, "rules.dir names the folder itself"),
    File(
        "prompts/sft_reasoning.yaml",
        "prompts/default.yaml",
        "Jinja2 templates: import-config writes a copy in our form",
    ),
    File("data_splits/{train,val,test}.csv", _SAME, "with the id of each row"),
    File("split_summary.json", _SAME, "with every row that was left out, and why"),
    File("data_splits/train_with_hard_tag.csv", _SAME, "columns id, text, label, hard"),
    File(
        "resolved_config.json",
        "resolved_config.yaml",
        "with where each value comes from; it can be run again",
    ),
    File("train.log", _SAME, ""),
    File("teacher_phase/train.log", "train.log", "one for all stages"),
    File("teacher_phase/rulebook.txt", _SAME, "each file under ## and its name"),
    File("teacher_phase/rule_files.json", _SAME, ""),
    File(
        "teacher_phase/teacher_samples.jsonl",
        _SAME,
        "example_id is the data's id and not a place; more fields",
    ),
    File("teacher_phase/accepted_samples.jsonl", _SAME, "with gold_label and hinted"),
    File("teacher_phase/rejected_samples.jsonl", _SAME, "with every rule's verdict beside reject_reason"),
    File(
        "teacher_phase/teacher_summary.json",
        _SAME,
        "example_acceptance_rate is by text; first answers against gold; the funnel; the ledger",
    ),
    File("teacher_source.json", _SAME, "where teacher_from names a run"),
    File("student_phase/train_sft.jsonl", _SAME, ""),
    File(
        "student_phase/metrics_<split>_step_<n>.json", "student_phase/metrics_val_step_<n>.json", "val alone"
    ),
    File("student_phase/eval_history.jsonl", _SAME, "put together anew by each run, and never appended to"),
    File(
        "student_phase/{val,test}_{final,bestval}.json",
        "student_phase/{val,test}.json",
        "of the chosen checkpoint; of another: understudy evaluate --run <run> --checkpoint final",
    ),
    File(
        "student_phase/metrics_{val,test}_{final,bestval}.json",
        "student_phase/metrics_{val,test}.json",
        "likewise; understudy summary takes bestval where inference was not run",
    ),
    File("student_phase/{split}.json", _SAME, _PREDICTIONS),
    File(
        "student_phase/metrics_{split}.json", _SAME, "with intervals; null for what is undefined, never NaN"
    ),
    File("student_phase/manifest.json", _SAME, ""),
    File("student_phase/metrics_{split}_label_only.json", _SAME, "with intervals"),
    File("student_phase/manifest_label_only.json", _SAME, ""),
    File("run_summary.json", _SAME, "paths under the root, none of them absolute"),
    File("test_report.md", _SAME, "and report.html, with plots"),
    File("model/<run>.json", _SAME, "with threshold and calibrator"),
    File("model/latest.json", _SAME, "swapped at once, with its history"),
    File("latest.txt", "model/latest.json", "JSON alone"),
    File(
        "model/{final,best_val}/",
        "student_phase/adapter/",
        "the chosen one, in PEFT's layout, with checksums",
    ),
    File(
        "baseline_runs/baseline_<time>/baseline_phase/",
        "baseline_phase/",
        "in the run's own folder: untrained model, majority and TF-IDF in one table with the student; "
        "understudy "
        "baseline makes it before anything is trained",
    ),
    File("cost_estimate.json", _SAME, "made before anything is sent; ledger.json has what it took"),
    File("summary.csv", _SAME, "three tables in one file; --format tidy has one, with intervals"),
    File("rl_phase/", _SAME, _RL),
    File("model/rl_latest.json", _SAME, "and model/<run>-rl.json"),
)

FILES: Mapping[str, File] = {file.name: file for file in _FILES}
