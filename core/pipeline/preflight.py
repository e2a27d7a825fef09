"""Checks before any work: models, prompts, keys, prices, and inputs of stages that are off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.completions.client import api_key
from core.config import Config
from core.config.base import Section
from core.cost import price_of
from core.data import stage as split_stage
from core.data.stage import SplitSettings, split
from core.engines.base import Capabilities
from core.errors import ConfigError, UserError
from core.evaluation.stages import evaluate
from core.pipeline.context import RunContext
from core.pipeline.run_folder import STUDENT
from core.pipeline.runners import Runner
from core.pipeline.training import planned_segments, planned_steps
from core.rejection.stage import RejectSettings, reject
from core.stage import Stage
from core.student.plan import PlannedSegment
from core.student.segment import lora_spec, train
from core.student.stage import EncodeStageSettings, encode
from core.teacher import stage as sample_stage
from core.teacher.stage import SampleSettings, sample


def preflight(context: RunContext, *, online: bool = True) -> None:
    """Check model, rules, prompts, key and price before anything is done or paid for.

    Keys are needed only if `online`; the engine then checks its server too.
    """
    config = context.config
    if config.teacher.kind == "openai":
        if online:
            api_key(config.teacher.endpoint)
        price_of(config.teacher.endpoint)
    context.student_content()
    for label_only in (False, True):
        context.frame(label_only=label_only)
    check_capabilities(context.capabilities, config)
    _ = context.engine.price  # reads the table
    if online:
        context.engine.check(lora_spec(config.student.lora, config.training_seed))


def check_capabilities(can: Capabilities, config: Config) -> None:
    """Raise ConfigError if the config needs something that the engine does not do."""
    student = config.student
    if student.adam.grad_clip_norm > 0 and not can.grad_clipping:
        raise ConfigError(
            f"engine {student.engine.kind} does not clip gradients: set student.adam.grad_clip_norm to 0"
        )


def check_files(config: Config) -> None:
    """Check the files that the config names, as far as that takes no time."""
    split_stage.content(SplitSettings.of(config))
    sample_stage.content(SampleSettings.of(config))
    context = RunContext(config)
    for label_only in (False, True):
        context.frame(label_only=label_only)


def missing_keys(context: RunContext) -> list[str]:
    """A sentence for each missing or wrong key that a run needs; a plan needs none."""
    config, found = context.config, []
    try:
        if config.teacher.kind == "openai":
            api_key(config.teacher.endpoint)
    except UserError as e:
        found.append(str(e))
    try:
        context.engine.require_credentials()
    except UserError as e:
        found.append(str(e))
    return found


def require_inputs(run: Runner) -> None:
    """Check, before any work, that stages which are off have the earlier objects that later ones need.

    Raises MissingInputError naming the run and the file. A plan shows such stages instead.
    """
    if not run.executes:
        return
    config, off = run.config, run.switches.read()
    before_training: list[tuple[Stage[Any], Section]] = [
        (split, SplitSettings.of(config)),
        (sample, SampleSettings.of(config)),
        (reject, RejectSettings.of(config)),
        (encode, EncodeStageSettings.for_training(config.student, config.seed)),
    ]
    for stage, settings in before_training:
        if stage.name in off:
            run.earlier(stage.name, stage.shown(settings))
    stopping = config.evaluation.early_stopping is not None
    needs_train = "train" in off
    needs_evaluate = "evaluate" in off or (run.switches.last == "train" and stopping)
    segments: list[PlannedSegment] = []
    # With early stopping, or before the examples are encoded, the steps are not known yet.
    if not stopping and "encode" in run.switches.off and (needs_train or needs_evaluate):
        encoded = run.earlier(encode.name, encode.shown())
        segments = planned_segments(run, planned_steps(run, encoded))
    if needs_train:
        _require_each(run, "train", train.shown(), [part.stop for part in segments])
    if needs_evaluate:
        stops = [0, *(part.stop for part in segments if part.evaluate)]
        _require_each(run, "evaluate", evaluate.shown(phase=STUDENT), stops)


def _require_each(run: Runner, stage: str, file: str, stops: Sequence[int]) -> None:
    """Require the objects of a stage at these steps; if no steps are known yet, any object."""
    if not any(slot.startswith(f"{stage}/") for slot in run.view.stages()):
        run.earlier(stage, file)
    for stop in stops:
        run.earlier(f"{stage}/{stop}", file)
