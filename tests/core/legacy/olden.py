"""A project of the earlier scripts: config, prompts, rules, data and runs, with texts of our own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tests.small_project import texts

FIRST = [
    "dataset_root_dir",
    "dataset_name",
    "data_path",
    "text_column",
    "label_column",
    "label_threshold",
    "csv_sep",
    "seed",
    "prompt_file",
    "task_instruction",
    "rules_root_dir",
    "rules_dir",
    "rules_glob",
    "teacher_env_file",
    "teacher_api_key_env",
    "teacher_base_url",
    "teacher_model",
    "teacher_temperature",
    "teacher_max_tokens",
    "teacher_k",
    "teacher_workers",
    "teacher_max_retries",
    "teacher_request_timeout",
    "teacher_json_mode",
    "teacher_sleep_seconds",
    "student_model_name",
    "tinker_base_url",
    "lora_rank",
    "ttl_seconds",
    "num_epochs",
    "batch_size",
    "learning_rate",
    "adam_beta1",
    "adam_beta2",
    "adam_eps",
    "lr_schedule",
    "min_lr_ratio",
    "max_length",
    "eval_interval",
    "max_eval_samples",
    "eval_max_concurrency",
    "eval_reasoning_placeholder",
    "invalid_label_warn_rate",
    "selection_metric",
    "min_reasoning_chars",
    "max_train_examples",
    "max_val_examples",
    "max_test_examples",
    "log_dir",
    "run_name",
    "save_sft_jsonl",
    "wandb_project",
    "wandb_entity",
    "wandb_mode",
]
"""The keys of its first version."""
LATER = [
    "student_use_rulebook",
    "student_enable_thinking",
    "reasoning_token_weight",
    "label_token_weight",
    "max_new_tokens",
    "val_export_every_evals",
    "batch_strategy",
    "eval_test_during_train",
    "train_checkpoint_e2e_eval",
    "rl_prompt_file",
    "rl_use_rulebook",
]
"""Those that came later."""
PROMPTS = """
task_instruction: this was never shown
teacher_system_prompt: You judge messages.
reasoning_user_prompt_template: |
  {task_instruction}
  Rules: {rulebook}
  Message: {text}
  Give {{"reasoning": "...", "label": 0}}.
label_only_user_prompt_template: |
  {task_instruction} {rulebook} {text} 0 or 1?
"""
TAGGED = """
reasoning_user_prompt_template: |
  {task_instruction} {rulebook} {text}
  <think>
  why
  </think>
  <label>
  0
  </label>
student_reasoning_user_prompt_template_no_rulebook: '{task_instruction} {text}'
label_only_user_prompt_template: '{task_instruction} {rulebook} {text}'
"""


def write_config(folder: Path, **values: Any) -> Path:
    """tinker/configs/reasoning_sft.json with these keys, a line each."""
    path = folder / "tinker/configs/reasoning_sft.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2))
    return path


def write_project(folder: Path, *, prompts: str = PROMPTS, name: str = "ethos") -> Path:
    """Prompts, rules and three tables where the predecessor looks for them; returns tinker/."""
    home = folder / "tinker"
    (home / "prompts").mkdir(parents=True)
    (home / "prompts/sft_reasoning.yaml").write_text(prompts)
    (home / f"rules/{name}").mkdir(parents=True)
    (home / f"rules/{name}/R1_prizes.txt").write_text("R1 Prizes nobody asked for are spam.")
    (home / f"rules/{name}/R2_people.txt").write_text("R2 People who know each other are not.")
    write_tables(home / f"dataset/{name}")
    return home


def write_tables(folder: Path, columns: tuple[str, str] = ("text", "label"), separator: str = ",") -> None:
    """train.csv, valid.csv and test.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(text, label) for _, text, label in texts()]
    for name, part in {"train": rows[:36], "valid": rows[36:48], "test": rows[48:]}.items():
        with (folder / f"{name}.csv").open("w", newline="") as f:
            csv.writer(f, delimiter=separator).writerows([columns, *part])


def answer(text: str, label: int, *, tagged: bool) -> tuple[str, str]:
    """What the teacher wrote, and the reasoning as the predecessor kept it."""
    words = " ".join(text.split()[:3])
    why = f'The words "{words}" decide this one [R{2 - label}].'
    if not tagged:
        return json.dumps({"reasoning": why, "label": label}), why
    thought = f"<think>\n{why}\n</think>"
    return f"{thought}\n<label>\n{label}\n</label>", thought


def write_run(
    home: Path, name: str = "reasoning_sft_20250102_030405", *, later: bool = False, wrong: int = 4
) -> Path:
    """A finished run of its first version or of the later one; `wrong` texts had no accepted answer."""
    run = home / "runs" / name
    rows = [(text, label) for _, text, label in texts()]
    parts = {"train": rows[:36], "val": rows[36:48], "test": rows[48:]}
    for split, part in parts.items():
        _csv(run / f"data_splits/{split}.csv", ("text", "label"), part)
    tries = [_sample(i, k, *row, later=later, wrong=i < wrong) for i, row in enumerate(parts["train"])
             for k in range(2 if i < wrong else 1)]  # fmt: skip
    accepted = [_accepted(row) for row in tries if row["pred_label"] == row["gold_label"]]
    rejected = [{**row, "reject_reason": "label_mismatch"} for row in tries if row not in accepted]
    rejected = [row for row in rejected if row["pred_label"] != row["gold_label"]]
    for file, lines in {"teacher": tries, "accepted": accepted, "rejected": rejected}.items():
        _lines(run / f"teacher_phase/{file}_samples.jsonl", lines)
    (run / "teacher_phase/rulebook.txt").write_text("[RULE FILE: a.txt]\nR1 Prizes.\nR2 People.\n")
    _json(run / "teacher_phase/rule_files.json", ["a.txt"])
    _json(
        run / "teacher_phase/teacher_summary.json", {"teacher_model": "deepseek-chat", "teacher_workers": 10}
    )
    _json(run / "resolved_config.json", {"teacher_k": 4, "student_model_name": "Qwen/Qwen3-8B", "seed": 42})
    _json(run / "run_summary.json", {"run_dir": str(run), "best_step": 16, "teacher_summary": {}})
    (run / "train.log").write_text("done\n")
    for split in parts:
        for end in ("", "_label_only"):
            _json(run / f"student_phase/metrics_{split}{end}.json", metrics(split, run, mode=end))
    return run


def metrics(split: str, run: Path, *, mode: str = "", auroc: float = float("nan")) -> dict[str, Any]:
    """The content of a metrics file: absolute paths, and NaN where one class is missing."""
    names = (
        "loss cls_loss accuracy macro_f1 auprc invalid_label_rate balanced_accuracy F1 mcc precision recall"
    )
    return {
        "created_at": "2025-01-02T04:00:00",
        "checkpoint_path": f"{run.absolute()}/checkpoint",
        "split": split,
        "dataset_fingerprint": "d1",
        "config_fingerprint": "c1",
        "decision_threshold": 0.25,
        "n": 12,
        **({} if mode else {"predictions_path": f"{run.absolute()}/student_phase/{split}.json"}),
        "metrics": {
            **dict.fromkeys(names.split(), 0.75),
            "auroc": auroc,
            "decision_threshold": 0.25,
            **dict.fromkeys(("tp", "fp", "fn", "tn"), 3),
        },
    }


def _sample(i: int, k: int, text: str, gold: int, *, later: bool, wrong: bool) -> dict[str, Any]:
    label = 1 - gold if wrong else gold
    raw, reasoning = answer(text, label, tagged=later)
    return {
        "sample_id": f"train_{i}_k{k}",
        "example_id": f"train_{i}",
        "split": "train",
        "k_index": k,
        "text": text,
        "gold_label": gold,
        "raw_output": raw,
        "parse_ok": True,
        "parse_source": "think_xml_label" if later else "json",
        "pred_label": label,
        "reasoning": reasoning,
        "error": None,
        **({"temperature": 0.0 if k == 0 else 0.7, "max_retries_used": 1} if later else {}),
    }


def _accepted(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("sample_id", "example_id", "text", "reasoning", "parse_source")
    return {
        **{name: row[name] for name in kept},
        "label": row["gold_label"],
        "teacher_pred_label": row["pred_label"],
    }


def _csv(path: Path, columns: tuple[str, ...], rows: list[tuple[str, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([columns, *rows])


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))
