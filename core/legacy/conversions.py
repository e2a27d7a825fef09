"""What becomes of a key's value where it is not taken as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.legacy.places import Columns
from core.legacy.settings import Convert, Fields, Settings

DEEPSEEK = "https://api.deepseek.com"
DEEPSEEK_KEY = "DEEPSEEK_API_KEY"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai/"
GOOGLE_KEY = "GOOGLE_API_KEY"
_METRICS = {"loss": "log_loss", "cls_loss": "log_loss"}
_SAME_METRICS = ("macro_f1", "auroc", "auprc", "accuracy")
_ALIASES = {"Qwen3-8B": "Qwen/Qwen3-8B"}
"""Names of models that its server understood and a hub does not."""

_FIRST_TRIED = Columns("text", "label", ",")


def same(name: str, field: str) -> Convert:
    """The value as it is, under our name; null is what our default does."""
    return lambda s: {} if s[name] is None else {field: s[name]}


def path(name: str, field: str) -> Convert:
    """A path, as it is written from the working directory."""
    return lambda s: {field: s.places.written(s[name])}


def column(name: str) -> Convert:
    """The name of a column, text or label."""
    return lambda s: {f"data.{name}_column": getattr(columns_of(s) or _FIRST_TRIED, name)}


def separator(s: Settings) -> Fields:
    if len(s["csv_sep"]) != 1:
        raise s.refuse("csv_sep", f'{s["csv_sep"]!r} is not one character; give one, such as ";" or "\\t"')
    return {"data.separator": (columns_of(s) or _FIRST_TRIED).separator}


def columns_of(s: Settings) -> Columns | None:
    """As they are in the train table; None where there is none to look at."""
    own = Columns(s["text_column"], s["label_column"], s["csv_sep"])
    return s.places.columns(s["dataset_root_dir"], s["dataset_name"], own=own)


def rules(s: Settings) -> Fields:
    """The first of its three folders that is there."""
    name = s["dataset_name"]
    tried = (str(Path(s["rules_root_dir"]) / name), str(Path(s["rules_dir"]) / name), s["rules_dir"])
    return {"rules.dir": s.places.written(next((at for at in tried if s.places.find(at)), tried[0]))}


def endpoint(name: str, field: str, of_gemini: str) -> Convert:
    """The later version took Gemini's models to Google's endpoint."""
    return lambda s: {field: of_gemini if _is_gemini(s) else s[name]}


def _is_gemini(s: Settings) -> bool:
    untouched = (s["teacher_base_url"], s["teacher_api_key_env"]) == (DEEPSEEK, DEEPSEEK_KEY)
    return bool(s.version == "new" and s["teacher_model"].startswith("gemini") and untouched)


def pace(s: Settings) -> Fields:
    """So many a minute as its workers could ask at most, with their sleep."""
    pause = s["teacher_sleep_seconds"]
    if pause < 0:
        raise s.refuse("teacher_sleep_seconds", f"{pause} is below 0; give 0 or more seconds")
    return {} if pause == 0 else {"teacher.limits.requests_per_minute": 60.0 * s["teacher_workers"] / pause}


def too_short(s: Settings) -> Fields:
    """0 rejects nothing, so that the rule is left out."""
    least = s["min_reasoning_chars"]
    names: list[Any] = ["unparsed", "label_mismatch"]
    return {"rejection.rules": [*names, {"rule": "too_short", "min_chars": least}] if least else names}


def model(s: Settings) -> Fields:
    return {"student.model": _ALIASES.get(s["student_model_name"], s["student_model_name"])}


def thinking(s: Settings) -> Fields:
    """The first version told the chat template nothing."""
    told = s.version == "new"
    return {"student.chat_template_args": {"enable_thinking": s["student_enable_thinking"]}} if told else {}


def days(s: Settings) -> Fields:
    return {"student.engine.checkpoint_ttl_days": s["ttl_seconds"] / 86400}


def schedule(s: Settings) -> Fields:
    return {"student.schedule": "constant" if s["lr_schedule"] == "constant" else "linear"}


def batches(s: Settings) -> Fields:
    if s["batch_strategy"] not in ("random", "stratified"):
        raise s.refuse(
            "batch_strategy", f"{s['batch_strategy']!r} is neither random nor stratified; give one"
        )
    return {"student.batches": s["batch_strategy"]}


def metric(s: Settings) -> Fields:
    chosen = _METRICS.get(s["selection_metric"], s["selection_metric"])
    if chosen not in (*_SAME_METRICS, *_METRICS.values()):
        known = ", ".join((*_SAME_METRICS, *_METRICS))
        raise s.refuse("selection_metric", f"{chosen!r} was no metric; give one of {known}")
    return {"evaluation.metric": chosen}


def wandb(name: str) -> Convert:
    """Nothing where the file does not speak of it: what is not asked for is not sent."""

    def convert(s: Settings) -> Fields:
        told = any(s.given(f"wandb_{key}") for key in ("project", "entity", "mode"))
        value = s[f"wandb_{name}"]
        return {f"trackers.wandb.{name}": value} if told and value is not None else {}

    return convert


def new_tokens(s: Settings) -> Fields:
    """No more than half of what prompt and answer may have together: room is kept for it here."""
    most = min(s["max_new_tokens"], s["max_length"] // 2)
    return {"evaluation.max_new_tokens": most, "export.max_new_tokens": most}


def root(s: Settings) -> Fields:
    """Runs lie in the folder runs/ of a root: new ones then stand beside the old."""
    found = Path(s.places.written(s["log_dir"]))
    return {"run.root": str(found.parent if found.name == "runs" else found)}
