"""Which stages' own keys change with one field of the config, while their inputs stay the same.

A line gives a field another valid value, with the settings that it needs, and names the stages whose keys
change. For train this is the first segment, whose key contains its batches and learning rates: a reason with
"batches" or "rates" refers to these.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.core.pipeline.key_line import Line, line, path, rule

STUDENT = "encode evaluate export explain bundle reinforce reward"
"""Stages that render the student's prompt."""
MEASURED = "evaluate export explain bundle reinforce reward"
MODEL = f"{STUDENT} train"
ADAPTER = "the trained adapter is an input of evaluate, export and explain"
LIVE = "only a live teacher reads it; the key of sample contains the whole section"
SPEED = "the speed of requests affects no answer"
MONEY = "the price of an answer does not affect it"
COLUMNS = "a bundle contains the columns of its training data"
NAMES = "answers, reasonings and predictions use these names"
PART_OF_PLAN = "it decides which stages are called, not their outputs"


WATCHED = "trackers do not affect results"
SWITCHED = ("split", "sample", "reject", "encode", "train", "evaluate", "export")
FILES = (
    "data.path=null",
    "data.files.train=parts/train.csv",
    "data.files.val=parts/val.csv",
    "data.files.test=parts/test.csv",
)
GOLD = ("teacher.answers=null", "teacher.kind=gold")
LABEL_ONLY = ("student.target=label_only",)
REASON_FIRST = ("student.target=reason_first",)
NO_TASK = ("prompts.file=without_task.yaml",)
SHOWN = "student.rulebook=true"
REMOTE = ("student.engine=tinker", "student.tokenizer=./model")
LOCAL = "student.engine.local_model=./model"
WEIGHTS = ("student.token_weights.label=1.0",)
STOPPING = ("evaluation.early_stopping.patience=3",)
STOPPING_RL = ("reinforce.early_stopping.patience=3",)
FALLING = ("reinforce.schedule=linear",)

RUN = [
    line("run.name", "another", ""),
    line("run.root", "elsewhere", ""),
    line("run.log_level", "DEBUG", ""),
    line("publish", "false", "", why=PART_OF_PLAN),
    line("trackers.wandb.project", "another", "", before=("trackers.wandb={}",), why=WATCHED),
    line("trackers.wandb.entity", "another", "", before=("trackers.wandb={}",), why=WATCHED),
    line("trackers.wandb.mode", "offline", "", before=("trackers.wandb={}",), why=WATCHED),
    line("trackers.mlflow.tracking_uri", "elsewhere", "", before=("trackers.mlflow={}",), why=WATCHED),
    line("trackers.mlflow.experiment", "another", "", before=("trackers.mlflow={}",), why=WATCHED),
    line("trackers.patience_s", "1", "", why=WATCHED),
    line("teacher_from", "another", "", why="the other run's objects are inputs"),
    *(line(f"stages.{name}", "false", "", why=PART_OF_PLAN) for name in SWITCHED),
    line(
        "seed",
        "7",
        "split train evaluate export baseline decide analyse hardness reinforce reward",
        why="evaluate, export and reward take a subset by it; of train and reinforce also the batches; "
        "decide, analyse and hardness draw their resamples by it; "
        "baseline draws nothing by it, but reads the splits that follow from it anyway",
    ),
    line(
        "seed",
        "7",
        "split encode train evaluate export baseline decide analyse hardness reinforce reward",
        before=("student.rationales=shuffled",),
        why="it orders shuffled rationales",
    ),
]

DATA = [
    line("data.name", "another", "split bundle", why="it is in split_summary.json and on the card"),
    line("data.format", "tsv", "split"),
    line("data.encoding", "latin-1", "split"),
    line("data.separator", "';'", "split"),
    line("data.quotes", "false", "split"),
    line("data.text_column", "id", "split bundle", why=COLUMNS),
    line("data.label_column", "id", "split"),
    line("data.id_column", "text", "split bundle", why=COLUMNS),
    line("data.group_column", "id", "split"),
    line("data.split_column", "part", "split"),
    line("data.positive", "[spam]", "split sample reject hardness bundle", why=NAMES),
    line("data.negative", "[ham]", "split sample reject hardness bundle", why=NAMES),
    line("data.label_threshold", "0.5", "split"),
    line("data.max_bad_rows", "3", "split"),
    line("data.sizes.train", "0.6", "split", "data.sizes.val=0.25"),
    line("data.sizes.val", "0.2", "split", "data.sizes.test=0.1"),
    line("data.sizes.test", "0.2", "split", "data.sizes.train=0.65"),
    line("data.near_duplicates.enabled", "true", "split"),
    line("data.near_duplicates.threshold", "0.7", "split", why="also if the search is off: one section"),
    line("data.near_duplicates.shingle", "4", "split", why="also if the search is off: one section"),
    line("data.near_duplicates.giant", "0.1", "split", why="also if the search is off: one section"),
    line("data.duplicates", "keep", "split"),
    line("data.conflicts", "keep", "split"),
    line("data.leaks", "drop", "split", why="also if splits are made and nothing can leak: one section"),
    line("data.max_train_examples", "20", "split"),
    line("data.max_val_examples", "5", "split"),
    line("data.max_test_examples", "5", "split"),
]

TEACHER = [
    line(
        "rules.glob",
        "'R*.txt'",
        "sample reject hardness",
        why="also if the same files match",
    ),
    line("prompts.task_instruction", "Judge.", f"sample {STUDENT}", why="it is in both prompts"),
    line("prompts.task_instruction", "Judge.", "sample", before=NO_TASK, why="also if no template uses it"),
    line("teacher.kind", "gold", "sample", "teacher.answers=null", before=LABEL_ONLY),
    line("teacher.kind", "openai", "sample", before=(*LABEL_ONLY, *GOLD)),
    line("teacher.parse.label_pattern", "'label (?P<label>[01])'", "sample"),
    line("teacher.parse.label_match", "last", "sample"),
    line("teacher.parse.labels", "{spam: 1, ham: 0}", "sample"),
    line("teacher.parse.stop", "['###']", "sample"),
    line("teacher.parse.prefer", "fields", "sample"),
    line("teacher.attempts", "2", "sample"),
    line("teacher.keep", "2", "sample reject"),
    line("teacher.max_missing", "3", "sample", why="it decides whether there is an output"),
    line("teacher.label_splits", "[test]", "", why=PART_OF_PLAN),
    line("teacher.model", "another", "sample", why=LIVE),
    line("teacher.base_url", "http://localhost:1", "sample", why=LIVE),
    line("teacher.api_key_env", "ANOTHER_KEY", "", why="the name of a credential affects no answer"),
    line("teacher.preset", "deepseek", "", why="the settings that it fills in are in the key"),
    line("teacher.token_limit", "max_completion_tokens", "", why="the name of the limit affects no answer"),
    line("teacher.temperature", "0.1", "sample", why=LIVE),
    line("teacher.max_tokens", "100", "sample", why=LIVE),
    line("teacher.hint", "true", "sample", why=LIVE),
    line("teacher.extra_body", "{seed: 1}", "sample", why=LIVE),
    line("teacher.limits.concurrency", "8", "", why=SPEED),
    line("teacher.limits.requests_per_minute", "60", "", why=SPEED),
    line("teacher.limits.tokens_per_minute", "60000", "", why=SPEED),
    line("teacher.limits.connect_timeout_s", "5", "", why=SPEED),
    line("teacher.limits.read_timeout_s", "60", "", why=SPEED),
    line("teacher.limits.total_timeout_s", "120", "", why=SPEED),
    line("teacher.limits.tries", "3", "", why=SPEED),
    line("teacher.limits.breaker.failures", "5", "", why=SPEED),
    line("teacher.limits.breaker.patience_s", "30", "", why=SPEED),
    line("teacher.limits.breaker.window", "50", "", why=SPEED),
    line("teacher.limits.breaker.rate", "0.9", "", why=SPEED),
    line("teacher.budget.usd", "1.5", "", why=MONEY),
    line("teacher.budget.tokens", "100000", "", why=MONEY),
    line("teacher.canary", "20", "", why=MONEY),
    line("teacher.prices", "null", "", why=MONEY),
]

REJECTION = [
    line(
        "rejection.rules",
        "[label_mismatch, unparsed, no_rule_cited, quote_not_in_text]",
        "reject hardness",
        why="the first failed rule in the list is the reason",
    ),
    *(rule(name) for name in ("unparsed", "truncated", "label_mismatch", "no_rule_cited", "unknown_rule")),
    rule("too_short"),
    rule("too_short", "min_chars", "21"),
    rule("too_long"),
    rule("too_long", "max_chars", "1000"),
    rule("quote_not_in_text"),
    rule("quote_not_in_text", "min_chars", "4"),
    rule("quote_not_in_text", "max_missing", "1"),
    rule("names_gold_label"),
    rule("names_gold_label", "phrases", "[the right label]"),
    rule("refuses"),
    rule("refuses", "phrases", "[no comment]"),
    rule("repeats"),
    rule("repeats", "max_times", "2"),
    rule("reveals_label"),
    rule("reveals_label", "phrases", "[as marked by the desk]"),
    line("rejection.hinted", "[]", "reject hardness", why="rules for answers that were shown the label"),
]

STUDENT_PROMPT = [
    line("student.chat_template_args", "{enable_thinking: false}", STUDENT),
    line("student.target", "label_only", STUDENT),
    line("student.rulebook", "true", STUDENT),
    line("student.rationales", "shuffled", "encode", why="the prompt is the same, so that step 0 is shared"),
    line("student.max_length", "200", STUDENT),
    line("student.template_date", "'2025-01-31'", STUDENT, why="also if the template has no date"),
    line("student.min_text_share", "0.1", "encode", why="also if no text is cut"),
    line(
        "student.label_share",
        "0.4",
        STUDENT,
        why="of evaluate and export too, which contain encode's",
    ),
    line("student.token_weights.label", "2.0", STUDENT, before=WEIGHTS, why="as label_share"),
    line("student.token_weights.reasoning", "0.5", STUDENT, before=WEIGHTS, why="as label_share"),
]

TRAINING = [
    Line(
        "student.engine.kind",
        ("student.engine=tinker",),
        frozenset(MODEL.split()),
        REMOTE[1:],
        "encode: by tokenizer alone",
    ),
    line("student.lora.rank", "4", "train reinforce", why=ADAPTER),
    line("student.lora.alpha", "8", "train reinforce", why=ADAPTER),
    line("student.lora.dropout", "0.1", "train reinforce", why=ADAPTER),
    line("student.lora.mlp", "false", "train reinforce", why=ADAPTER),
    line("student.lora.attention", "false", "train reinforce", why=ADAPTER),
    line("student.lora.unembed", "true", "train reinforce", why=ADAPTER),
    line("student.epochs", "2", "train", before=("student.steps=null",), why="rates: they fall to the end"),
    line("student.steps", "9", "train", why="rates: they fall to the last step"),
    line(
        "student.steps",
        "9",
        "",
        before=("student.schedule=constant",),
        why="at a constant rate more steps continue from the same segments",
    ),
    line("student.seeds", "[7, 8]", "train reinforce", why="by its first; batches too"),
    line("student.batch_size", "4", "train", why="batches"),
    line("student.batches", "random", "train", why="batches"),
    line("student.learning_rate", "1e-3", "train", why="rates"),
    line("student.schedule", "constant", "train", why="rates"),
    line("student.min_lr_ratio", "0.5", "train", why="rates"),
    line("student.warmup_steps", "1", "train", why="rates"),
    line("student.adam.beta1", "0.8", "train reinforce", why=ADAPTER),
    line("student.adam.beta2", "0.9", "train reinforce", why=ADAPTER),
    line("student.adam.eps", "1e-6", "train reinforce", why=ADAPTER),
    line("student.adam.weight_decay", "0.1", "train reinforce", why=ADAPTER),
    line("student.adam.grad_clip_norm", "0.5", "train reinforce", why=ADAPTER),
    line(
        "student.engine.train_dtype",
        "bfloat16",
        "train reinforce",
        why="scores are always computed in float32",
    ),
    line("student.engine.device", "cuda", f"{MEASURED} train", why="it decides the last bits"),
    line("student.engine.threads", "2", f"{MEASURED} train", why="it decides the last bits"),
    line(
        "student.engine.base_url",
        "http://localhost:1",
        f"{MEASURED} train adapter",
        before=REMOTE,
        why="a checkpoint's path belongs to a server",
    ),
    line("student.engine.checkpoint_ttl_days", "2", "", before=REMOTE, why="it affects no number"),
    line("student.engine.max_concurrent_requests", "8", "", before=REMOTE, why="speed affects no number"),
    line(
        "student.engine.overlap",
        "false",
        "",
        before=REMOTE,
        why="the time of the evaluation affects no number",
    ),
    line("student.engine.prices", "null", "", before=REMOTE, why=MONEY),
    line(
        "student.engine.local_model",
        "./model",
        "adapter bundle",
        before=REMOTE,
        why="the adapter is checked with it, and the bundle loaded",
    ),
    line("student.parity_rows", "4", "bundle"),
    line("student.parity_rows", "4", "adapter bundle", before=REMOTE),
    line("student.save_every", "2", "train", why="batches: it cuts the segments"),
]

MEASURING = [
    line("evaluation.interval", "2", "train", why="batches: it cuts the segments"),
    line("evaluation.metric", "auroc", "", why="it chooses among measured checkpoints"),
    line("evaluation.max_examples", "5", "evaluate"),
    line("evaluation.early_stopping.patience", "2", "", before=STOPPING, why=PART_OF_PLAN),
    line("evaluation.early_stopping.min_delta", "0.1", "", before=STOPPING, why=PART_OF_PLAN),
    line("evaluation.invalid_warn_rate", "0.5", "", why="it only warns"),
    line("evaluation.max_new_tokens", "64", "evaluate", why="also if nothing is generated"),
    line("evaluation.max_new_tokens", "64", "evaluate export explain bundle", before=REASON_FIRST),
    line("evaluation.threshold.objective", "f1", "decide"),
    line("evaluation.threshold.cost_ratio", "5", "decide", "evaluation.threshold.objective=cost"),
    line(
        "evaluation.threshold.precision",
        "0.9",
        "decide",
        "evaluation.threshold.objective=recall_at_precision",
    ),
    line(
        "evaluation.threshold.recall",
        "0.9",
        "decide",
        "evaluation.threshold.objective=precision_at_recall",
    ),
    line("evaluation.threshold.share", "0.1", "decide", "evaluation.threshold.objective=share_flagged"),
    line("evaluation.calibration.method", "platt", "decide"),
    line("baselines.other_prompt", "false", "", why=PART_OF_PLAN),
    line("baselines.label_only_run", "another", "", why=PART_OF_PLAN),
    line("export.splits", "[test]", "", why=PART_OF_PLAN),
    line("export.reasoning", "false", "", why=PART_OF_PLAN),
    line("export.label_only", "false", "", why=PART_OF_PLAN),
    line("export.reasoning_rows", "3", "export"),
    line("export.error_rows", "3", "explain"),
    line("export.max_new_tokens", "4", "export explain bundle"),
    line(
        "export.max_new_tokens", "4", "", before=REASON_FIRST, why="evaluation.max_new_tokens applies there"
    ),
    line("export.merged", "float32", "bundle"),
]

REINFORCE = [
    line("reinforce.epochs", "2.0", "reinforce", why="batches"),
    line("reinforce.steps", "3", "reinforce", why="batches"),
    line("reinforce.batch_size", "4", "reinforce", why="batches"),
    line("reinforce.batches", "random", "reinforce", why="batches"),
    line("reinforce.group_size", "3", "reinforce"),
    line("reinforce.temperature", "0.9", "reinforce"),
    line("reinforce.max_new_tokens", "32", "reinforce reward"),
    *(
        line("reinforce.rewards", f"{{{name}: 0.5}}", "reinforce reward")
        for name in ("label", "format", "cites_rule", "faithful_quote", "length")
    ),
    line("reinforce.length_tokens", "64", "reinforce reward"),
    line("reinforce.advantages", "centred", "reinforce"),
    line("reinforce.loss", "cispo", "reinforce"),
    line("reinforce.clip_low", "0.7", "reinforce"),
    line("reinforce.clip_high", "1.3", "reinforce"),
    line("reinforce.substeps", "2", "reinforce"),
    line("reinforce.kl", "0.1", "reinforce"),
    line("reinforce.learning_rate", "1e-4", "reinforce", why="rates"),
    line("reinforce.schedule", "linear", "reinforce", why="rates"),
    line("reinforce.min_lr_ratio", "0.5", "reinforce", before=FALLING, why="rates"),
    line("reinforce.warmup_steps", "2", "reinforce", why="rates"),
    line("reinforce.keep_optimiser", "true", "reinforce"),
    line("reinforce.interval", "2", "reinforce", why="batches: it cuts the segments"),
    line("reinforce.save_every", "2", "reinforce", why="batches: it cuts the segments"),
    line("reinforce.early_stopping.patience", "2", "", before=STOPPING_RL, why=PART_OF_PLAN),
    line("reinforce.early_stopping.min_delta", "0.1", "", before=STOPPING_RL, why=PART_OF_PLAN),
    line("reinforce.reward_rows", "3", "reward"),
    line("reinforce.rollouts_kept", "2", "reinforce"),
]

LINES = [*RUN, *DATA, *TEACHER, *REJECTION, *STUDENT_PROMPT, *TRAINING, *MEASURING, *REINFORCE]

PATHS = [
    path("student.engine.local_model", "config.json", "10000.0", "20000.0", "adapter bundle", *REMOTE, LOCAL),
    path("data.path", "", "market", "square", "split", why="split_summary.json contains the first path"),
    path("data.files.train", "", "market", "square", "split", *FILES),
    path("data.files.val", "", "market", "square", "split", *FILES),
    path("data.files.test", "", "market", "square", "split", *FILES),
    path("data.dir", "val.csv", "market", "square", "split", "data.path=null", "data.dir=parts"),
    path("data.split_file", "", "test", "val", "split", "data.split_file=splits.csv"),
    path("rules.dir", "R1_prizes.txt", "Prizes", "Gifts", "sample reject hardness bundle"),
    path("rules.dir", "R1_prizes.txt", "Prizes", "Gifts", f"sample reject hardness {STUDENT}", SHOWN),
    path("prompts.file", "", "You apply a policy", "You apply policies", "sample"),
    path("prompts.file", "", "The answer is", "We answer", "sample", why="it is the template of hints"),
    path("prompts.file", "", "You judge texts", "You read texts", STUDENT),
    path("prompts.file", "", "Text: {{ text }} Label:", "{{ text }} Label:", STUDENT, why="both modes"),
    path("prompts.file", "", "(1) or not", "(1), or not", f"sample {STUDENT}", why="it is in both prompts"),
    path("teacher.answers", "", "decide this one", "decide this", "sample"),
    path(
        "student.model",
        "config.json",
        "10000.0",
        "20000.0",
        MODEL,
        why="adapter_config.json contains the path",
    ),
    path("student.model", "tokenizer_config.json", "{", "{ ", MODEL, why="one digest; train has its batches"),
    path("student.tokenizer", "tokenizer_config.json", "{", "{ ", STUDENT, "student.tokenizer=./model"),
    path("baselines.encoder", "config.json", "10000.0", "20000.0", "embed", "baselines.encoder=./model"),
]


def fields() -> Iterator[str]:
    """Every field with a line."""
    yield from (entry.field for entry in LINES)
    yield from (entry.field for entry in PATHS)
