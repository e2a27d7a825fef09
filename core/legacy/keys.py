"""Every key of the predecessor's config: what it is here, or why it has no counterpart. One row a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.legacy import conversions as to
from core.legacy.settings import Convert, Key, Kind, Value

_WANDB = "only where the file has one of the wandb keys: nothing is sent anywhere by default"
_RL = "understudy reinforce asks as the student was trained: with its own prompt, and student.rulebook"
_READ = (
    "as the train table has it: text and label with commas, else the file's columns with commas, else these "
    "with its separator"
)
_DRAW = "drawn by label too, but other rows"


def _key(
    name: str,
    kind: Kind,
    default: Value,
    fields: str = "",
    convert: Convert | None = None,
    *,
    why: str = "",
    later: Value | None = None,
    only_later: bool = False,
    quiet: bool = False,
) -> Key:
    """`default` is the first version's; `later` the other's, where that is not the same."""
    names = tuple(fields.split())
    return Key(
        name,
        kind,
        default,
        default if later is None else later,
        names,
        why,
        convert or (to.same(name, names[0]) if names else None),
        only_later,
        quiet,
    )


_DATA = (
    _key("dataset_root_dir", "text", "tinker/dataset", "data.dir", to.path("dataset_root_dir", "data.dir")),
    _key("dataset_name", "text", "ethos", "data.name"),
    _key(
        "data_path",
        "text",
        "datasets/ethos/Ethos_Dataset_Binary.csv",
        why="the staged scripts did not read it; to have one table split, give data.path and data.sizes "
        "instead of data.dir",
    ),
    _key("text_column", "text", "comment", "data.text_column", to.column("text"), why=_READ, quiet=True),
    _key("label_column", "text", "isHate", "data.label_column", to.column("label"), why=_READ, quiet=True),
    _key("label_threshold", "number", 0.5, "data.label_threshold"),
    _key("csv_sep", "text", ";", "data.separator", to.separator, why=_READ, quiet=True),
    _key("seed", "whole", 42, "seed"),
    _key("max_train_examples", "whole", 0, "data.max_train_examples", why=_DRAW),
    _key("max_val_examples", "whole", 0, "data.max_val_examples", why=_DRAW),
    _key("max_test_examples", "whole", 0, "data.max_test_examples", why=_DRAW),
)

_WORDING = (
    _key(
        "prompt_file",
        "text",
        "tinker/prompts/sft_reasoning.yaml",
        "prompts.file",
        to.path("prompt_file", "prompts.file"),
        why="templates are Jinja2 here, {{ text }} for {text}: a copy is written beside the config",
    ),
    _key(
        "task_instruction",
        "text",
        "Decide whether the following text is hate speech.",
        "prompts.task_instruction",
    ),
    _key(
        "rules_root_dir",
        "text",
        "tinker/rules",
        "rules.dir",
        to.rules,
        why="the dataset's folder itself: <rules_root_dir>/<dataset_name>, else <rules_dir>/<dataset_name>, "
        "else rules_dir",
    ),
    _key("rules_dir", "text", "tinker/rules", "rules.dir", to.rules, why="as rules_root_dir"),
    _key("rules_glob", "text", "*.txt", "rules.glob"),
    _key("rl_prompt_file", "text", "prompts/rl_reasoning.yaml", why=_RL, only_later=True),
    _key("rl_use_rulebook", "switch", False, why=_RL, only_later=True),
)

_TEACHER = (
    _key(
        "teacher_env_file",
        "text",
        "extraction/.env",
        later="../extraction/.env",
        why="keys are in the environment, or in .env of the directory you run from: put it there, or export "
        "its variables",
    ),
    _key(
        "teacher_api_key_env",
        "text",
        to.DEEPSEEK_KEY,
        "teacher.api_key_env",
        to.endpoint("teacher_api_key_env", "teacher.api_key_env", to.GOOGLE_KEY),
    ),
    _key(
        "teacher_base_url",
        "text",
        to.DEEPSEEK,
        "teacher.base_url",
        to.endpoint("teacher_base_url", "teacher.base_url", to.GOOGLE),
    ),
    _key("teacher_model", "text", "deepseek/deepseek-chat", "teacher.model"),
    _key(
        "teacher_temperature",
        "number",
        0.7,
        "teacher.temperature",
        why="of every attempt but the first, which is at 0",
    ),
    _key("teacher_max_tokens", "whole", 300, "teacher.max_tokens", later=4096),
    _key(
        "teacher_k",
        "whole",
        3,
        "teacher.attempts",
        why="asked again until the label agrees with gold; the other rules judge afterwards",
    ),
    _key("teacher_workers", "whole", 1, "teacher.limits.concurrency"),
    _key(
        "teacher_max_retries",
        "whole",
        3,
        "teacher.limits.tries",
        why="for failures of the endpoint; an answer that cannot be read is an attempt",
    ),
    _key("teacher_request_timeout", "number", 90, "teacher.limits.read_timeout_s"),
    _key(
        "teacher_json_mode",
        "switch",
        True,
        later=False,
        why="the first request settles what the endpoint can: a schema, JSON, or plain text",
    ),
    _key(
        "teacher_sleep_seconds",
        "number",
        0.0,
        "teacher.limits.requests_per_minute",
        to.pace,
        why="as a rate, which is kept by all workers together",
        quiet=True,
    ),
    _key(
        "min_reasoning_chars",
        "whole",
        20,
        "rejection.rules",
        to.too_short,
        why="as min_chars of too_short, which does not count the tags around the reasoning",
    ),
)

_STUDENT = (
    _key("student_model_name", "text", "Qwen3-8B", "student.model", to.model),
    _key(
        "student_use_rulebook",
        "switch",
        True,
        "student.rulebook",
        why="wherever the student is asked; it showed the rulebook at inference whatever this said",
        only_later=True,
    ),
    _key(
        "student_enable_thinking",
        "switch",
        True,
        "student.chat_template_args",
        to.thinking,
        why="heeded here; the staged scripts did not read it",
        only_later=True,
    ),
    _key("tinker_base_url", "text", None, "student.engine.base_url"),
    _key("lora_rank", "whole", 32, "student.lora.rank"),
    _key(
        "ttl_seconds",
        "whole",
        604800,
        "student.engine.checkpoint_ttl_days",
        to.days,
        later=7776000,
        why="of all checkpoints but the chosen one, which stays for ever",
    ),
    _key("num_epochs", "number", 3, "student.epochs"),
    _key("batch_size", "whole", 16, "student.batch_size"),
    _key(
        "batch_strategy", "text", "random", "student.batches", to.batches, later="stratified", only_later=True
    ),
    _key("learning_rate", "number", 2e-4, "student.learning_rate"),
    _key("adam_beta1", "number", 0.9, "student.adam.beta1"),
    _key("adam_beta2", "number", 0.95, "student.adam.beta2"),
    _key("adam_eps", "number", 1e-8, "student.adam.eps"),
    _key(
        "lr_schedule",
        "text",
        "linear",
        "student.schedule",
        to.schedule,
        why="constant, or linear for any other word, as before",
        quiet=True,
    ),
    _key("min_lr_ratio", "number", 0.1, "student.min_lr_ratio"),
    _key(
        "max_length",
        "whole",
        2048,
        "student.max_length",
        why="texts are cut to fit, rules and answers never; room for the answer is kept",
    ),
    _key("reasoning_token_weight", "number", 1.0, "student.token_weights.reasoning", only_later=True),
    _key("label_token_weight", "number", 1.0, "student.token_weights.label", only_later=True),
    _key("save_sft_jsonl", "switch", True, why="student_phase/train_sft.jsonl is always written"),
)

_MEASURING = (
    _key("eval_interval", "whole", 10, "evaluation.interval"),
    _key(
        "max_eval_samples",
        "whole",
        0,
        "evaluation.max_examples",
        why="rows of val, drawn by label and not the first ones; test is never cut",
    ),
    _key("eval_max_concurrency", "whole", 64, "student.engine.max_concurrent_requests"),
    _key(
        "eval_reasoning_placeholder",
        "text",
        "",
        why="there is none: the label is scored after the reasoning that the student writes itself",
    ),
    _key("invalid_label_warn_rate", "number", 0.1, "evaluation.invalid_warn_rate"),
    _key(
        "selection_metric",
        "text",
        "macro_f1",
        "evaluation.metric",
        to.metric,
        why="loss and cls_loss, which were one, are log_loss",
        quiet=True,
    ),
    _key(
        "max_new_tokens",
        "whole",
        512,
        "evaluation.max_new_tokens export.max_new_tokens",
        to.new_tokens,
        later=4096,
        why="half of max_length at most, since room is kept for the answer",
        only_later=True,
        quiet=True,
    ),
    _key(
        "val_export_every_evals",
        "whole",
        0,
        why="every checkpoint's metrics are kept; for its predictions: understudy evaluate --run <run> "
        "--checkpoint step_<n>",
        only_later=True,
    ),
    _key(
        "eval_test_during_train",
        "switch",
        False,
        why="test is read once, at the end, with everything frozen",
        only_later=True,
    ),
    _key(
        "train_checkpoint_e2e_eval",
        "switch",
        False,
        why="train is measured once, whole, at the end",
        only_later=True,
    ),
    _key("log_dir", "text", "tinker/runs", "run.root", to.root, why="the folder that holds runs/"),
    _key(
        "run_name",
        "text",
        None,
        "run.name",
        why="a name stands for one config; by default it is that of the config file, without the time",
    ),
    _key(
        "wandb_project",
        "text",
        "reasoning-sft-tinker",
        "trackers.wandb.project",
        to.wandb("project"),
        why=_WANDB,
        quiet=True,
    ),
    _key("wandb_entity", "text", None, "trackers.wandb.entity", to.wandb("entity"), why=_WANDB, quiet=True),
    _key("wandb_mode", "text", "online", "trackers.wandb.mode", to.wandb("mode"), why=_WANDB, quiet=True),
)

KEYS: Mapping[str, Key] = {key.name: key for key in (*_DATA, *_WORDING, *_TEACHER, *_STUDENT, *_MEASURING)}

FIXED: Mapping[str, tuple[Any, str]] = {
    "data.duplicates": ("drop", "it did not look, so that a text which stands twice counted twice"),
    "data.conflicts": ("drop", "it did not look for texts with both labels either"),
    "data.leaks": ("keep", "nor for texts shared between splits, which drop takes out of train"),
    "teacher.kind": ("openai", "a live teacher; for answers of an earlier run: recorded, and answers"),
    "teacher.keep": (1, "it kept one answer a text"),
    "student.engine.kind": ("tinker", "it trained there alone"),
    "student.target": ("reason_first", "the reasoning, then the label"),
    "student.lora.alpha": (32.0, "what Tinker has"),
    "student.adam.weight_decay": (0.0, "it had none"),
    "student.adam.grad_clip_norm": (0.0, "it did not clip"),
    "student.warmup_steps": (0, "it had none"),
}
"""What it did without a key for it: value and comment by our dotted name."""
