"""Every flag of the predecessor's scripts: the key it set, or what stands in its place. One row a flag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag and the scripts that had it. `key` is the config's key that it set; `here` says what to type
    or why there is nothing, where it set none."""

    name: str
    scripts: str
    key: str = ""
    here: str = ""


_ALL = "all"
_TEACHER, _STUDENT, _INFERENCE, _BASELINE, _SUMMARY = "teacher", "student", "inference", "baseline", "summary"
_TINKER_HOME = "a chosen adapter is taken home in any case, into student_phase/adapter/"


def _sets(scripts: str, *keys: str) -> list[Flag]:
    """Flags that bear the name of the key they set."""
    return [Flag("--" + key.replace("_", "-"), scripts, key) for key in keys]


_FLAGS = (
    Flag(
        "--config",
        _ALL,
        here="the argument: understudy run configs/mine.yaml; a file that is missing is an error",
    ),
    *_sets(_ALL, "seed", "run_name", "wandb_mode"),
    *_sets(_TEACHER, "dataset_name", "dataset_root_dir", "rules_root_dir"),
    *_sets(_TEACHER, "max_train_examples", "max_val_examples", "max_test_examples"),
    *_sets(f"{_TEACHER}, {_STUDENT}", "teacher_k", "selection_metric"),
    *_sets(_TEACHER, "teacher_workers", "teacher_temperature", "teacher_max_tokens"),
    Flag("--teacher-model-name", _TEACHER, "teacher_model"),
    Flag(
        "--teacher-run-name",
        f"{_STUDENT}, {_INFERENCE}",
        here="teacher_from: <run>, with stages.split, sample and reject false; for a run of the "
        "predecessor teacher.kind: recorded, teacher.answers: <run's folder> and "
        "data.dir: <run's folder>/data_splits",
    ),
    *_sets(
        f"{_STUDENT}, {_INFERENCE}", "student_model_name", "lora_rank", "max_length", "eval_max_concurrency"
    ),
    *_sets(f"{_STUDENT}, {_INFERENCE}", "max_new_tokens"),
    *_sets(_STUDENT, "num_epochs", "batch_size", "learning_rate", "eval_interval", "max_eval_samples"),
    *_sets(_STUDENT, "batch_strategy", "reasoning_token_weight", "label_token_weight", "ttl_seconds"),
    *_sets(_STUDENT, "student_use_rulebook", "val_export_every_evals", "train_checkpoint_e2e_eval"),
    *_sets(_STUDENT, "eval_test_during_train"),
    Flag(
        "--use-emitted-label-metrics",
        _STUDENT,
        here="metrics are of the probability at the label's place; the "
        "label that is written is compared with it in the report",
    ),
    Flag("--save-resume-checkpoint", _STUDENT, here="always: the same command goes on where it was"),
    Flag("--download-adapter", _STUDENT, here=_TINKER_HOME),
    Flag("--adapter-output-subdir", _STUDENT, here=_TINKER_HOME),
    Flag(
        "--adapter-download-timeout-seconds", _STUDENT, here="none: the progress line says what is waited for"
    ),
    Flag(
        "--checkpoint-path",
        _INFERENCE,
        here="understudy evaluate --run <run> --checkpoint best, final, step_<n> or a path",
    ),
    Flag("--temperature", _INFERENCE, here="none: reasons are written greedily"),
    Flag("--workers", _INFERENCE, "eval_max_concurrency"),
    Flag("--reasoning", _INFERENCE, here="--set export.reasoning=true or false"),
    Flag("--label-only", _INFERENCE, here="--set export.label_only=true or false"),
    Flag("--compare-label-only", _INFERENCE, here="as --label-only"),
    Flag("--force", _INFERENCE, here="--refresh export"),
    Flag("--progress", _INFERENCE, here="bars on a terminal, and none with --log-format json"),
    Flag("--baseline-model-name", _BASELINE, "student_model_name"),
    Flag("--runs-dir", _SUMMARY, here="--root, the folder that holds runs/"),
    Flag("--output", _SUMMARY, here="--output of understudy summary"),
    Flag("--mode", _SUMMARY, here="--mode of understudy summary: reasoning, label_only or both"),
)

FLAGS: Mapping[str, Flag] = {flag.name: flag for flag in _FLAGS}
