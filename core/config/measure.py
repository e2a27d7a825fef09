"""`evaluation:`, `baselines:`, `export:`, `trackers:`, `reinforce:`; the metrics and rewards by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from core.config.section import ANYWHERE, CONTENT, MODEL, ConfigSection, NotInKey
from core.registry import Registry

Better = Literal["higher", "lower"]
Basis = Literal["counts", "probabilities", "ranks"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A registered metric of scored rows with two labels.

    `of` is what `function` computes it from, for one set of rows or for many resamples at once:
    "counts": from the Counts of predictions by gold label; "probabilities": the mean over rows of
    `function(positive, probability)`, which must treat both classes alike; "ranks": from the Ranks of
    positive among negative rows. `point`, if given, computes it from (positive, probability) for the
    rows themselves.
    """

    name: str
    title: str
    better: Better
    of: Basis
    function: Callable[..., Any]
    undefined: str
    """Why it is undefined for the rows for which it is."""
    binary: bool
    """Whether it needs a positive class, so that it has no meaning for more than two labels."""
    point: Callable[..., float] | None


METRICS: Registry[Metric] = Registry("metric", "understudy.metrics", modules=("core.evaluation.metrics",))
"""The metrics by name. Files, reports and trackers have all of them."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


def metric(
    name: str,
    *,
    better: Better,
    of: Basis,
    title: str = "",
    undefined: str = "no rows",
    binary: bool = False,
    point: Callable[..., float] | None = None,
) -> Callable[[_Function], _Function]:
    """Register a function as a metric; its title in sentences is by default its name.

    >>> @metric("specificity", better="higher", of="counts", undefined="no row is negative", binary=True)
    ... def specificity(counts):
    ...     return ratio(counts.tn, counts.tn + counts.fp)
    """

    def register(function: _Function) -> _Function:
        shown = title or name.replace("_", " ")
        METRICS.register(
            name, Metric(name, shown, better, of, function, undefined, binary, point), defined=function
        )
        return function

    return register


def metrics_code() -> dict[str, Any]:
    """Return what identifies the code of metrics that are not built in, for cache keys."""
    code = {name: found for name in METRICS if (found := METRICS.provenance(name))}
    return {"metrics_code": code} if code else {}


class MeasuringSettings(ConfigSection):
    """Base class of the settings of stages whose results contain every metric."""

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of metrics that are not built in."""
        return metrics_code()


@dataclass(frozen=True, slots=True)
class Reward:
    """A registered reward: a function from an answer, its example and the rubric to a number from 0 to 1 (see
    core.rl.rewards), and its weight where the config gives none."""

    function: Callable[..., float]
    weight: float


REWARDS: Registry[Reward] = Registry("reward", "understudy.rewards", modules=("core.rl.rewards",))
"""The rewards by name."""
_Reward = TypeVar("_Reward", bound=Callable[..., float])


def reward(name: str, *, weight: float = 0.0) -> Callable[[_Reward], _Reward]:
    """Register a function as a reward.

    >>> @reward("is_polite", weight=0.1)
    ... def is_polite(answer, example, rubric):
    ...     return float("please" in answer.raw)
    """

    def register(function: _Reward) -> _Reward:
        REWARDS.register(name, Reward(function, weight), defined=function)
        return function

    return register


def _with_defaults(given: Mapping[str, float]) -> Mapping[str, float]:
    """The weights of all built-in rewards, and of those from elsewhere that the config names."""
    weights = {name: given.get(name, REWARDS.get(name).weight) for name in REWARDS.built_in()}
    weights |= {name: weight for name, weight in given.items() if REWARDS.get(name)}
    if not any(weights.values()):
        raise ValueError("all rewards are 0: there is nothing to learn from")
    return weights


RewardWeights = Annotated[Mapping[str, Annotated[float, Field(ge=0)]], AfterValidator(_with_defaults)]
"""How much each reward counts; 0 only reports it."""


def rewards_code(weights: Mapping[str, float]) -> dict[str, Any]:
    """Return what identifies the code of rewards that are not built in, for cache keys."""
    code = {name: found for name in weights if (found := REWARDS.provenance(name))}
    return {"rewards_code": code} if code else {}


class EarlyStopping(ConfigSection):
    """Stop when the metric has not improved for a while."""

    patience: int = Field(3, ge=1)
    """Evaluations without improvement before training stops."""
    min_delta: float = Field(0.0, ge=0)
    """Smallest change that counts as better."""


Objective = Literal["macro_f1", "f1", "cost", "recall_at_precision", "precision_at_recall", "share_flagged"]
NUMBER_OF: Mapping[str, str] = {
    "cost": "cost_ratio",
    "recall_at_precision": "precision",
    "precision_at_recall": "recall",
    "share_flagged": "share",
}
"""The field that an objective needs, for objectives that need one."""


class ThresholdConfig(ConfigSection):
    """How the decision threshold is fitted on val, before it is frozen for every other split."""

    objective: Objective = "macro_f1"
    """What is largest at the threshold; recall_at_precision is the largest recall of those thresholds
    whose precision is at least `precision`, and share_flagged flags as many rows as `share` allows."""
    cost_ratio: float | None = Field(None, gt=0, le=1e6)
    """cost: the cost of one missed positive, in wrongly flagged negatives."""
    precision: float | None = Field(None, gt=0, le=1)
    """recall_at_precision: the least precision."""
    recall: float | None = Field(None, gt=0, le=1)
    """precision_at_recall: the least recall."""
    share: float | None = Field(None, gt=0, le=1)
    """share_flagged: the largest share of rows that may be flagged."""

    @property
    def number(self) -> float:
        """The number that the objective needs; 0 if it needs none."""
        name = NUMBER_OF.get(self.objective)
        return 0.0 if name is None else float(getattr(self, name))

    @model_validator(mode="after")
    def _its_own_number(self) -> ThresholdConfig:
        for objective, name in NUMBER_OF.items():
            given = getattr(self, name) is not None
            if objective == self.objective and not given:
                raise ValueError(f"objective {objective} needs {name}")
            if objective != self.objective and given:
                raise ValueError(
                    f"{name} belongs to objective {objective}, but objective is {self.objective}"
                )
        return self


class CalibrationConfig(ConfigSection):
    """Whether probabilities are corrected on val, so that of the texts at 0.8 four in five are positive."""

    method: Literal["none", "temperature", "platt", "isotonic", "auto"] = "none"
    """temperature divides the log odds; platt shifts them too; isotonic takes any rising curve and needs
    200 rows and 50 of each class; auto takes the simplest that no other beats on held-out folds of val."""


class EvaluationConfig(ConfigSection):
    """How each checkpoint is measured on val, the untrained model included."""

    interval: int = Field(10, ge=1)
    """Optimizer steps between evaluations; the last step is always evaluated."""
    metric: Annotated[str, AfterValidator(lambda name: METRICS.get(name).name)] = "macro_f1"
    """The metric by which the checkpoint is chosen; see core.evaluation.metrics."""
    max_examples: int = Field(0, ge=0)
    """Rows of val that are scored at each checkpoint, stratified; 0 scores all."""
    early_stopping: EarlyStopping | None = None
    """Optional early stopping."""
    invalid_warn_rate: Annotated[float, NotInKey("a warning only")] = Field(0.10, ge=0, le=1)
    """Warn if more than this share of rows has no valid label."""
    max_new_tokens: int = Field(512, ge=1)
    """reason_first: longest reasoning generated before the label is scored, in tokens."""
    threshold: ThresholdConfig = ThresholdConfig()
    """How the decision threshold is chosen."""
    calibration: CalibrationConfig = CalibrationConfig()
    """Whether and how probabilities are calibrated before the threshold is chosen."""


class BaselinesConfig(ConfigSection):
    """What the student is compared with, besides the majority class, TF-IDF and the untrained model."""

    encoder: Annotated[str | None, CONTENT, MODEL] = None
    """A sentence encoder: a folder as sentence-transformers writes it, package:// or a hub id. Its frozen
    embeddings with logistic regression, alone and with TF-IDF, are two more baselines."""
    other_prompt: bool = True
    """Ask the untrained model with the rulebook shown too, or hidden if the student's own prompt shows
    it; with a Tinker server these prompts cost money."""
    label_only_run: str | None = None
    """A finished run under the same root, on the same split, with a student trained on label_only."""


class ExportConfig(ConfigSection):
    """Predictions and metrics of the chosen checkpoint."""

    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    """Which splits are exported; val is always measured, since the threshold comes from it."""
    reasoning: bool = True
    """Measure with the prompt and target the student was trained on."""
    label_only: bool = True
    """Measure with the label-only prompt too, with its own threshold."""
    reasoning_rows: int = Field(50, ge=0)
    """Rows of each split for which the reasoning is generated; for reason_first all are."""
    error_rows: int = Field(20, ge=0)
    """Number of the worst errors in the report for which the reasoning is generated if it was not before."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest generated reasoning, in tokens."""
    merged: Literal["float32", "bfloat16", "float16"] | None = None
    """Put the base model with the adapter added into the bundle too, in this number format; the bundle then
    needs no base model. How far the answers differ is in the bundle's parity.json."""

    @model_validator(mode="after")
    def _something_to_export(self) -> ExportConfig:
        if not (self.reasoning or self.label_only):
            raise ValueError("reasoning and label_only are both off: nothing would be exported")
        return self


class WandbConfig(ConfigSection):
    """Weights & Biases (`pip install 'understudy-distill[wandb]'`); its key is in WANDB_API_KEY."""

    project: str = Field("understudy", min_length=1)
    """The project there."""
    entity: str | None = None
    """The user or team; by default the key's own."""
    mode: Literal["online", "offline", "disabled"] = "online"
    """offline leaves a folder that `wandb sync` sends later (in WANDB_DIR, else the working directory)."""


class MlflowConfig(ConfigSection):
    """MLflow (`pip install 'understudy-distill[mlflow]'`); credentials: MLFLOW_TRACKING_*."""

    tracking_uri: Annotated[str | None, ANYWHERE] = None
    """A server, a database or a folder; by default MLFLOW_TRACKING_URI, else MLflow's own choice."""
    experiment: str = Field("understudy", min_length=1)
    """The experiment there, made where it is missing."""


class TrackersConfig(ConfigSection):
    """Services that receive a run's metrics. One that fails causes a warning and does not stop the run."""

    wandb: WandbConfig | None = None
    """Weights & Biases; {} takes its defaults."""
    mlflow: MlflowConfig | None = None
    """MLflow; {} takes its defaults."""
    patience_s: float = Field(5.0, ge=0, le=600)
    """Seconds that a run waits at its end for a tracker; what is left is sent without it."""


class ReinforceConfig(ConfigSection):
    """Group relative policy optimization (Shao et al. 2024, DeepSeekMath) from a student or the base model.

    Each step samples a group of answers to each of a few texts, rewards them, and makes the better ones
    of each group likelier.
    """

    epochs: float = Field(1.0, gt=0)
    """Passes over the train texts; a part of one is allowed."""
    steps: int | None = Field(None, ge=1)
    """Steps, instead of epochs."""
    batch_size: int = Field(8, ge=1)
    """Texts per step."""
    batches: Literal["stratified", "random"] = "stratified"
    """stratified: every step has the classes in the ratio of all texts, as nearly as possible."""
    group_size: int = Field(8, ge=2)
    """Answers to each text, which are compared with each other."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling. The loss takes log-probabilities at 1, so others bias it."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens."""
    rewards: RewardWeights = {}
    """How much each reward counts, by name; 0 only reports it. See core.rl.rewards."""
    length_tokens: int = Field(128, ge=1)
    """Tokens of an answer up to which the reward `length` is whole."""
    advantages: Literal["normalised", "centred"] = "normalised"
    """A reward minus its group's mean; normalised: divided by its group's standard deviation too."""
    loss: Literal["importance_sampling", "ppo", "cispo"] = "ppo"
    """The policy gradient; see core.engines.Loss."""
    clip_low: float = Field(0.8, ge=0, le=1)
    """ppo, cispo: least ratio of an answer's probability now to that when it was sampled."""
    clip_high: float = Field(1.2, ge=1)
    """ppo, cispo: largest ratio."""
    substeps: int = Field(1, ge=1)
    """Updates by one step's answers; ratios leave 1 from the second on."""
    kl: float = Field(0.0, ge=0)
    """Penalty on each token's advantage for being likelier than at the start; 0 needs no reference."""
    learning_rate: float = Field(1e-5, gt=0)
    """Largest learning rate; the optimizer's other settings are student.adam."""
    schedule: Literal["linear", "constant"] = "constant"
    """linear: falls from the first step after the warm-up to min_lr_ratio at the last."""
    min_lr_ratio: float = Field(0.1, ge=0, le=1)
    """linear: learning rate of the last step, as a share of the largest."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the learning rate rises from nearly 0 to the largest."""
    keep_optimiser: bool = False
    """Begin with the student's optimizer instead of a new one."""
    interval: int = Field(10, ge=1)
    """Steps between evaluations on val; the start and the last step are always evaluated."""
    early_stopping: EarlyStopping | None = None
    """Optional early stopping, by evaluation.metric on val."""
    reward_rows: int = Field(64, ge=1)
    """Rows of val, stratified, whose greedy answers are rewarded at each evaluation."""
    save_every: Annotated[int, NotInKey("segments are keyed by their own steps")] = Field(0, ge=0)
    """Also save every so many steps between evaluations; 0 saves at evaluations only."""
    rollouts_kept: int = Field(8, ge=0)
    """Answers of each step that are left in rollouts.jsonl, whole groups first."""
