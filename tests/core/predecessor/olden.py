"""A folder as the predecessor's users have it: config, prompts, rules and data, with texts of our own."""

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
