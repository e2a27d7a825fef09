"""The keys of the earlier scripts' config: defaults, paths, and what each becomes in ours."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from core.config import DataConfig
from core.data.labeled_rows import table_files
from core.errors import ConfigError, DataError

Version = Literal["old", "new"]
"""The first published version of the scripts, and a later one with more keys and other defaults."""
_PARENTS = 3
"""Relative paths are looked up in this many folders, from the config's own folder upwards."""
_CLONE = "tinker"
"""The scripts' own folder, with which their paths may begin."""
_EXPECTED = {str: "a string", float: "a number", int: "a whole number", bool: "true or false"}


class LegacyColumns(NamedTuple):
    """How the train table is written."""

    text: str
    label: str
    separator: str


@dataclass(slots=True)
class Settings:
    """The keys that the file gives, their lines from 1, and every key's value.

    `values` has the defaults of the scripts' version for keys that the file lacks.
    """

    path: Path
    given: Mapping[str, Any]
    lines: Mapping[str, int]
    version: Version = "old"
    values: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def place(self, key: str) -> str:
        """Return `file:line` of a key; only the file if the key is not in it."""
        return f"{self.path}:{self.lines[key]}" if key in self.lines else str(self.path)

    def error(self, key: str, why: str) -> ConfigError:
        """Return the error for a key's value."""
        return ConfigError(f"{self.place(key)}: {key}: {why}")

    def find(self, path: str) -> Path | None:
        """Return what a path of the config names; None if it does not exist."""
        return next((found for found in self.candidates(path) if found.exists()), None)

    def candidates(self, path: str) -> Iterator[Path]:
        """Yield the places where the scripts' versions would look for a path."""
        given = Path(path).expanduser()
        if given.is_absolute():
            yield given
            return
        folder = self.path.absolute().parent
        for start in (*[folder, *folder.parents][:_PARENTS], Path.cwd()):
            yield start / given
            if given.parts[:1] == (_CLONE,):
                yield start / given.relative_to(_CLONE)

    def our_path(self, path: str) -> str:
        """Return a path for our config: relative to the working directory if it is below it."""
        found = self.find(path)
        if found is None:
            return path
        found, here = found.resolve(), Path.cwd().resolve()
        return str(found.relative_to(here)) if found.is_relative_to(here) else str(found)

    def columns(self) -> LegacyColumns | None:
        """Return the first of three ways to read the train table; None without a table.

        The scripts tried text and label, then the config's columns, both separated by commas, then the
        config's columns with its separator. The last one is the result if none fits. Raises ConfigError for
        an invalid separator.
        """
        if len(separator := self["csv_sep"]) != 1:
            raise self.error("csv_sep", f'{separator!r} is not one character; give one, such as ";" or "\\t"')
        folder = self.find(self["dataset_root_dir"])
        if folder is None:
            return None
        try:
            tables = table_files(DataConfig(dir=str(folder), name=self["dataset_name"]))
            with Path(tables[0].url).open(encoding="utf-8", errors="replace", newline="") as f:
                head = f.readline().removeprefix("\ufeff")
        except (DataError, OSError):
            return None
        own = LegacyColumns(self["text_column"], self["label_column"], separator)
        for tried in (LegacyColumns("text", "label", ","), own._replace(separator=",")):
            names = next(csv.reader([head], delimiter=tried.separator), [])
            if {tried.text, tried.label} <= {name.strip() for name in names}:
                return tried
        return own


Convert = Callable[[Settings, Any], Any]


@dataclass(frozen=True, slots=True)
class LegacyKey:
    """One key. `fields` are the dotted names of our config that it sets; without any it has no counterpart.

    `convert` returns the value for our fields, None leaves them at our default. `new` is the later version's
    default if it differs; a `later` key is unknown to the first version, which behaved as by `default`.
    """

    name: str
    type: type[str] | type[float] | type[int] | type[bool]
    default: str | float | None
    fields: tuple[str, ...] = ()
    convert: Convert | None = None
    new: str | float | None = None
    later: bool = False

    @property
    def new_default(self) -> str | float | None:
        """The later version's default."""
        return self.default if self.new is None else self.new

    @property
    def note(self) -> str:
        """What is different here, or what to do instead."""
        return NOTES.get(self.name, "")

    def check(self, settings: Settings) -> None:
        """Raise ConfigError if the file gives the key a value of another type."""
        value, allowed = settings.given[self.name], (int, float) if self.type is float else self.type
        if value is None and self.new_default is None:
            return
        if not isinstance(value, allowed) or isinstance(value, bool) != (self.type is bool):
            raise settings.error(
                self.name,
                f"{value!r:.60} is not {_EXPECTED[self.type]}; correct it, or remove the key, which is then "
                f"{self.new_default!r}",
            )


def _column(index: int) -> Convert:
    return lambda s, value: (s.columns() or LegacyColumns("text", "label", ","))[index]


def _one_of(key: str, ours: Mapping[str, str]) -> Convert:
    """Our names for a key's values; any other value is an error."""

    def convert(s: Settings, value: str) -> str:
        if value not in ours:
            raise s.error(key, f"{value!r} is not one of {', '.join(ours)}; give one of them")
        return ours[value]

    return convert


def _rules(s: Settings, value: str) -> str:
    """The first of three folders that exists, as in the scripts."""
    name, rules_dir = s["dataset_name"], s["rules_dir"]
    tried = (str(Path(s["rules_root_dir"]) / name), str(Path(rules_dir) / name), rules_dir)
    return s.our_path(next((path for path in tried if s.find(path)), tried[0]))


def _or_google(google: str) -> Convert:
    """The later version sent Gemini models to Google unless an endpoint was set."""

    def convert(s: Settings, value: str) -> str:
        untouched = (s["teacher_base_url"], s["teacher_api_key_env"]) == (_DEEPSEEK, _DEEPSEEK_KEY)
        is_gemini = s.version == "new" and s["teacher_model"].startswith("gemini")
        return google if is_gemini and untouched else value

    return convert


def _requests_per_minute(s: Settings, seconds: float) -> float | None:
    if seconds < 0:
        raise s.error("teacher_sleep_seconds", f"{seconds} is negative; give 0 or more seconds")
    return 60.0 * s["teacher_workers"] / seconds if seconds else None


def _rejection_rules(s: Settings, min_chars: int) -> list[Any]:
    too_short = [{"rule": "too_short", "min_chars": min_chars}] if min_chars else []
    return ["unparsed", "label_mismatch", *too_short]


def _thinking(s: Settings, value: bool) -> dict[str, bool] | None:
    """The first version passed no arguments to the chat template."""
    is_set = s.version == "new" or "student_enable_thinking" in s.given
    return {"enable_thinking": value} if is_set else None


def _root(s: Settings, value: str) -> str:
    """The folder that holds runs/, so that new runs are next to the earlier ones."""
    found = Path(s.our_path(value))
    return str(found.parent if found.name == "runs" else found)


def _wandb(s: Settings, value: str | None) -> str | None:
    """Nothing is sent unless the file has one of the keys."""
    return value if {"wandb_project", "wandb_entity", "wandb_mode"} & s.given.keys() else None


_DEEPSEEK, _DEEPSEEK_KEY = "https://api.deepseek.com", "DEEPSEEK_API_KEY"
_google_key = _or_google("GOOGLE_API_KEY")
_google_url = _or_google("https://generativelanguage.googleapis.com/v1beta/openai/")
_batches = _one_of("batch_strategy", {name: name for name in ("random", "stratified")})
_METRICS = {m: m for m in ("macro_f1", "auroc", "auprc", "accuracy")}
_metric = _one_of("selection_metric", {**_METRICS, "loss": "log_loss", "cls_loss": "log_loss"})
_INSTRUCTION = "Decide whether the following text is hate speech."
_HUB_NAMES = {"Qwen3-8B": "Qwen/Qwen3-8B"}
_TOKENS = ("evaluation.max_new_tokens", "export.max_new_tokens")
_CONCURRENCY = "student.engine.max_concurrent_requests"
_TTL = "student.engine.checkpoint_ttl_days"

_TABLE = (
    # Data
    LegacyKey("dataset_root_dir", str, "tinker/dataset", ("data.dir",), Settings.our_path),
    LegacyKey("dataset_name", str, "ethos", ("data.name",)),
    LegacyKey("data_path", str, "datasets/ethos/Ethos_Dataset_Binary.csv"),
    LegacyKey("text_column", str, "comment", ("data.text_column",), _column(0)),
    LegacyKey("label_column", str, "isHate", ("data.label_column",), _column(1)),
    LegacyKey("label_threshold", float, 0.5, ("data.label_threshold",)),
    LegacyKey("csv_sep", str, ";", ("data.separator",), _column(2)),
    LegacyKey("seed", int, 42, ("seed",)),
    LegacyKey("max_train_examples", int, 0, ("data.max_train_examples",)),
    LegacyKey("max_val_examples", int, 0, ("data.max_val_examples",)),
    LegacyKey("max_test_examples", int, 0, ("data.max_test_examples",)),
    # Prompts and rules
    LegacyKey("prompt_file", str, "tinker/prompts/sft_reasoning.yaml", ("prompts.file",), Settings.our_path),
    LegacyKey("task_instruction", str, _INSTRUCTION, ("prompts.task_instruction",)),
    LegacyKey("rules_root_dir", str, "tinker/rules", ("rules.dir",), _rules),
    LegacyKey("rules_dir", str, "tinker/rules", ("rules.dir",), _rules),
    LegacyKey("rules_glob", str, "*.txt", ("rules.glob",)),
    LegacyKey("rl_prompt_file", str, "prompts/rl_reasoning.yaml", later=True),
    LegacyKey("rl_use_rulebook", bool, False, later=True),
    # Teacher
    LegacyKey("teacher_env_file", str, "extraction/.env", new="../extraction/.env"),
    LegacyKey("teacher_api_key_env", str, _DEEPSEEK_KEY, ("teacher.api_key_env",), _google_key),
    LegacyKey("teacher_base_url", str, _DEEPSEEK, ("teacher.base_url",), _google_url),
    LegacyKey("teacher_model", str, "deepseek/deepseek-chat", ("teacher.model",)),
    LegacyKey("teacher_temperature", float, 0.7, ("teacher.temperature",)),
    LegacyKey("teacher_max_tokens", int, 300, ("teacher.max_tokens",), new=4096),
    LegacyKey("teacher_k", int, 3, ("teacher.attempts",)),
    LegacyKey("teacher_workers", int, 1, ("teacher.limits.concurrency",)),
    LegacyKey("teacher_max_retries", int, 3, ("teacher.limits.tries",)),
    LegacyKey("teacher_request_timeout", float, 90, ("teacher.limits.read_timeout_s",)),
    LegacyKey("teacher_json_mode", bool, True, new=False),
    LegacyKey(
        "teacher_sleep_seconds", float, 0.0, ("teacher.limits.requests_per_minute",), _requests_per_minute
    ),
    LegacyKey("min_reasoning_chars", int, 20, ("rejection.rules",), _rejection_rules),
    # Student
    # Tinker accepted the name Qwen3-8B, the hub does not.
    LegacyKey(
        "student_model_name", str, "Qwen3-8B", ("student.model",), lambda s, name: _HUB_NAMES.get(name, name)
    ),
    LegacyKey("student_use_rulebook", bool, True, ("student.rulebook",), later=True),
    LegacyKey("student_enable_thinking", bool, True, ("student.chat_template_args",), _thinking, later=True),
    LegacyKey("tinker_base_url", str, None, ("student.engine.base_url",)),
    LegacyKey("lora_rank", int, 32, ("student.lora.rank",)),
    LegacyKey("ttl_seconds", int, 604800, (_TTL,), lambda s, value: value / 86400, new=7776000),
    LegacyKey("num_epochs", float, 3, ("student.epochs",)),
    LegacyKey("batch_size", int, 16, ("student.batch_size",)),
    LegacyKey("batch_strategy", str, "random", ("student.batches",), _batches, new="stratified", later=True),
    LegacyKey("learning_rate", float, 2e-4, ("student.learning_rate",)),
    LegacyKey("adam_beta1", float, 0.9, ("student.adam.beta1",)),
    LegacyKey("adam_beta2", float, 0.95, ("student.adam.beta2",)),
    LegacyKey("adam_eps", float, 1e-8, ("student.adam.eps",)),
    LegacyKey(
        "lr_schedule", str, "linear", ("student.schedule",), lambda s, v: v if v == "constant" else "linear"
    ),
    LegacyKey("min_lr_ratio", float, 0.1, ("student.min_lr_ratio",)),
    LegacyKey("max_length", int, 2048, ("student.max_length",)),
    LegacyKey("reasoning_token_weight", float, 1.0, ("student.token_weights.reasoning",), later=True),
    LegacyKey("label_token_weight", float, 1.0, ("student.token_weights.label",), later=True),
    LegacyKey("save_sft_jsonl", bool, True),
    # Evaluation, run and trackers
    LegacyKey("eval_interval", int, 10, ("evaluation.interval",)),
    LegacyKey("max_eval_samples", int, 0, ("evaluation.max_examples",)),
    LegacyKey("eval_max_concurrency", int, 64, (_CONCURRENCY,)),
    LegacyKey("eval_reasoning_placeholder", str, ""),
    LegacyKey("invalid_label_warn_rate", float, 0.1, ("evaluation.invalid_warn_rate",)),
    LegacyKey("selection_metric", str, "macro_f1", ("evaluation.metric",), _metric),
    LegacyKey(
        "max_new_tokens",
        int,
        512,
        _TOKENS,
        lambda s, n: min(n, s["max_length"] // 2),
        new=4096,
        later=True,
    ),
    LegacyKey("val_export_every_evals", int, 0, later=True),
    LegacyKey("eval_test_during_train", bool, False, later=True),
    LegacyKey("train_checkpoint_e2e_eval", bool, False, later=True),
    LegacyKey("log_dir", str, "tinker/runs", ("run.root",), _root),
    LegacyKey("run_name", str, None, ("run.name",)),
    LegacyKey("wandb_project", str, "reasoning-sft-tinker", ("trackers.wandb.project",), _wandb),
    LegacyKey("wandb_entity", str, None, ("trackers.wandb.entity",), _wandb),
    LegacyKey("wandb_mode", str, "online", ("trackers.wandb.mode",), _wandb),
)
KEYS: Mapping[str, LegacyKey] = {key.name: key for key in _TABLE}

_READ = (
    "depends on the train table: text and label with commas, else the config's columns with commas, else the "
    "config's columns with its separator"
)
_SUBSET = "drawn by label too, but other rows are drawn"
_RL = "understudy reinforce uses the student's own prompt and student.rulebook"
_TRACKED = "written only if the file has one of the wandb keys: by default nothing is sent"

NOTES: Mapping[str, str] = {
    "data_path": "the staged scripts did not read it; to split one table, set data.path and data.sizes "
    "instead of data.dir",
    "text_column": _READ,
    "label_column": _READ,
    "csv_sep": _READ,
    "max_train_examples": _SUBSET,
    "max_val_examples": _SUBSET,
    "max_test_examples": _SUBSET,
    "prompt_file": "templates are Jinja2 here, {{ text }} for {text}: a copy is written next to the config",
    "rules_root_dir": "the folder of the dataset: <rules_root_dir>/<dataset_name>, else "
    "<rules_dir>/<dataset_name>, else rules_dir",
    "rules_dir": "see rules_root_dir",
    "rl_prompt_file": _RL,
    "rl_use_rulebook": _RL,
    "teacher_env_file": "API keys are read from the environment or from .env in the working directory",
    "teacher_temperature": "for every attempt after the first, which is at 0",
    "teacher_k": "attempts end when the label agrees with gold; the other rules are applied afterwards",
    "teacher_max_retries": "for failures of the endpoint; an unreadable answer counts as an attempt",
    "teacher_json_mode": "the first request finds what the endpoint supports: a schema, JSON or plain text",
    "teacher_sleep_seconds": "converted to a rate that all workers share",
    "min_reasoning_chars": "min_chars of the rule too_short, which does not count tags around the reasoning",
    "student_use_rulebook": "applies wherever the student is used; the scripts always showed the rulebook at "
    "inference",
    "student_enable_thinking": "applied here; the staged scripts did not read it",
    "ttl_seconds": "of all checkpoints except the selected one, which never expires",
    "lr_schedule": "constant, or linear for any other value, as before",
    "max_length": "texts are truncated to fit, rules and answers never; room is reserved for the answer",
    "save_sft_jsonl": "student_phase/train_sft.jsonl is always written",
    "max_eval_samples": "rows of val, drawn by label instead of the first ones; test is always complete",
    "eval_reasoning_placeholder": "not used: labels are scored after the student's own reasoning",
    "selection_metric": "loss and cls_loss, which were equal, are log_loss",
    "max_new_tokens": "at most half of max_length, since room is reserved for the answer",
    "val_export_every_evals": "metrics of every checkpoint are stored; for predictions: understudy evaluate "
    "--run <run> --checkpoint step_<n>",
    "eval_test_during_train": "test is evaluated once, at the end, with everything frozen",
    "train_checkpoint_e2e_eval": "train is evaluated once, completely, at the end",
    "log_dir": "the folder that holds runs/",
    "run_name": "a name belongs to one config; the default is the config file's name, without a timestamp",
    "wandb_project": _TRACKED,
    "wandb_entity": _TRACKED,
    "wandb_mode": _TRACKED,
}
"""By key: what is different here or, for a key without a counterpart, what to do instead."""

FIXED: Mapping[str, tuple[Any, str]] = {
    "data.duplicates": ("drop", "not checked before, so a repeated text counted twice"),
    "data.conflicts": ("drop", "texts with both labels were not checked either"),
    "data.leaks": ("keep", "nor texts shared between splits; drop removes them from train"),
    "teacher.kind": ("openai", "a live teacher; to use answers of an earlier run: recorded, and answers"),
    "teacher.keep": (1, "one accepted answer per text"),
    "student.engine.kind": ("tinker", "the only engine of the scripts"),
    "student.target": ("reason_first", "the reasoning, then the label"),
    "student.lora.alpha": (32.0, "Tinker's value"),
    "student.adam.weight_decay": (0.0, "none before"),
    "student.adam.grad_clip_norm": (0.0, "no clipping before"),
    "student.warmup_steps": (0, "none before"),
}
"""What the scripts did without a key for it: value and comment by our dotted name."""
