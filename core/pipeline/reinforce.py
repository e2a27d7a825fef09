"""Reinforcement: a student samples answers, learns from their rewards, and is measured like any other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from core import jsonio
from core.config import differences
from core.data.stage import SplitSettings, split
from core.errors import MissingInputError, Part, UserError
from core.evaluation.decision import select
from core.export.manifests import PointerStart, read_start
from core.pipeline.distill import conclude
from core.pipeline.estimate import forecast_reinforcement
from core.pipeline.exporting import (
    bundle_student,
    classical_baselines,
    export_checkpoint,
    score,
    score_untrained,
    scored_val,
)
from core.pipeline.opening import run_config
from core.pipeline.outcome import Outcome, Reinforcement, Start
from core.pipeline.run_folder import RL, Histories
from core.pipeline.runners import Runner
from core.pipeline.scorers import Scorer
from core.pipeline.training import Trained, TrainingLoop
from core.records import read_examples
from core.rl.rewards import ValRewards
from core.rl.stages import PolicySettings, RewardSettings, reward
from core.rl.stages import reinforce as reinforce_segment
from core.stage import StageCall, flat
from core.store import Manifest, RunView
from core.store.run_view import FOLDER
from core.student.train_stage import PlannedSegment, plan_segments, plan_steps

log = logging.getLogger(__name__)

BASE = "base"
SETTINGS = "reinforce.json"


def reinforce(run: Runner, source: str | None = None, *, replace: bool = False) -> Outcome:
    """Reinforce the student that `source` names by the config's `reinforce:`, in the run's rl_phase/.

    `source` is a run whose published student to start from, latest, base, or None for the run's own. With
    `replace`, the files of a reinforcement with other settings in rl_phase/ are replaced.
    """
    config, histories = run.config, Histories(run.view, run.trackers, RL)
    run.context.preflight()
    parts = run.stage(split, SplitSettings.of(config))
    start = find_start(run, parts, source)
    _claim_phase(run, start, replace=replace)
    log.info("starts from %s", start)
    for line in forecast_reinforcement(run, parts):
        log.info("%s", line)

    trained, reinforcement = train_on_rewards(run, histories, parts, start)
    chosen = select(trained.curve, config.evaluation.metric, begun=str(start))
    log.info("%s", chosen.reason)

    others: list[Scorer] = []
    with run.optional(Part.START):
        if chosen.step != 0:
            others.append(_score_start(run, parts, trained, start))
    others += classical_baselines(run, parts)
    exported = export_checkpoint(run, parts, trained, chosen.step, "rl", others)
    home, bundled = bundle_student(run, parts, exported, RL)
    outcome = Outcome(run, parts, trained, chosen, exported, home, bundled, reinforcement=reinforcement)
    return conclude(run, outcome)


def train_on_rewards(
    run: Runner, histories: Histories, parts: Manifest, start: Start
) -> tuple[Trained, Reinforcement]:
    """Take every segment with its evaluation and its rewards on val; step 0 is the start."""
    config, of = run.config, run.config.reinforce
    examples = read_examples(run.store.file(parts, "train.csv"))
    hashes = [jsonio.digest([e.id, e.text, e.label]) for e in examples]
    steps = plan_steps(of, config.training_seed, [e.label for e in examples], hashes)

    def segment(part: PlannedSegment, parent: Manifest | None) -> StageCall:
        begin = {"parent": parent} if parent is not None else {"start": start.checkpoint}
        reference = start.checkpoint if of.kl else None
        at = {"first": part.start + 1, "stop": part.stop, "total": len(steps)}
        given = {"steps": steps[part.start : part.stop], "total": len(steps)}
        inputs = {"split": parts, **begin, "reference": reference}
        return run.call(reinforce_segment, PolicySettings.of(config), at, given, **inputs)

    def measure_rewards(step: int) -> None:
        def rewarded(checkpoint: Manifest | None) -> StageCall:
            settings = RewardSettings.of(config)
            return run.call(reward, settings, {"step": step}, split=parts, checkpoint=checkpoint)

        manifest = run.do(loop.measuring(step, rewarded))
        rewards[step] = ValRewards.from_json(manifest.summary, manifest.path)
        histories.rewards(step, rewards[step])
        log.info("RL step %d on val: greedy answers earn %s", step, rewards[step].reward_mean)

    rewards: dict[int, ValRewards] = {}
    segments = plan_segments(len(steps), of.interval, of.save_every)
    loop = TrainingLoop(run, histories, parts, segments, segment, of.early_stopping, start.checkpoint)
    loop.train(measure_rewards)
    return loop.trained, Reinforcement(start, len(steps), rewards)


def _score_start(run: Runner, parts: Manifest, trained: Trained, start: Start) -> Scorer:
    """The start on the same rows."""
    who, name, title = "rl-start", "untrained", "Untrained student"
    if start.checkpoint is not None:
        name, title = "start", f"Student before reinforcement (step {start.step})"
    val = score(run, parts, start.checkpoint, "val", who, scored=scored_val(run, trained, 0))
    return score_untrained(run, parts, name, title, val, who=who, checkpoint=start.checkpoint)


def find_start(run: Runner, parts: Manifest, source: str | None) -> Start:
    """The start that `source` names: None for the run's own student, latest, a run's name, or base.

    Raises MissingInputError if it does not exist, UserError if this config cannot continue from it.
    """
    if source == BASE:
        return Start(None, 0, None)
    name = source or run.view.name
    pointer = read_start(run.store, name)
    if pointer is None:
        raise MissingInputError(
            f"run {name} has no student: {run.store.where(f'model/{name}.json')} is missing; run "
            "`understudy run` with publish on first, or start from the base model: --from base"
        )
    if pointer.phase == "rl":
        raise UserError(
            f"model/{name}.json is of a student that was reinforced already; name that of its run"
        )
    view, step = RunView(run.store, pointer.run_dir.removeprefix(f"{FOLDER}/")), pointer.best_step
    for what, there, here in _compared(run, view, pointer, parts):
        if there != here:
            raise UserError(
                f"the student of run {view.name} cannot be reinforced with this config: its {what} is "
                f"{there}, here it is {here}; make them equal, or start from the base model: --from base"
            )
    if step == 0:
        return Start(view.name, 0, None)
    entry = view.stages().get(f"train/{step}")
    checkpoint = run.store.sound("train", entry.key) if entry else None
    if checkpoint is None:
        raise MissingInputError(
            f"the checkpoint of step {step}, which run {view.name} published, is missing or damaged under "
            f"{run.store.where('objects')}; run `understudy run` with its config to build it again"
        )
    return Start(view.name, step, checkpoint)


def _compared(
    run: Runner, view: RunView, pointer: PointerStart, parts: Manifest
) -> Iterator[tuple[str, Any, Any]]:
    """What a student and this config have to agree in: a name, the student's value, the config's value."""
    student, before, context = run.config.student, run_config(view).config.student, run.context
    yield "engine (student.engine)", pointer.engine, student.engine.kind
    theirs, own = f"{before.model} ({pointer.base_digest[:12]})", context.base_digest[:12]
    yield "base model", theirs, f"{student.model} ({own})"
    if lora := differences(before.lora, student.lora):
        yield "LoRA adapter (student.lora)", "another", f"not that: {'; '.join(lora)}"
    for field in ("target", "rulebook", "chat_template_args"):  # of the student's prompt and answer
        yield f"student.{field}", getattr(before, field), getattr(student, field)
    yield "student's prompts", pointer.prompts_digest[:12], context.prompts.student_digest[:12]
    record = view.stages().get(split.name)
    digest = "missing" if record is None or record.digest is None else record.digest
    what = "split of the data (its test texts must not be train texts here)"
    yield what, digest[:12], parts.digest[:12]


def _claim_phase(run: Runner, start: Start, *, replace: bool) -> None:
    """Take the run's rl_phase/ for this start and these settings, and write them down.

    Raises UserError naming what differs if another reinforcement finished there and is not to be replaced.
    With `replace`, its files in the run's folder are removed; its objects are kept.
    """
    config, view = run.config, run.view
    settings = {"seed": config.training_seed, **config.reinforce.model_dump(mode="json")}
    content = {"start": start.result.to_json(), "reinforce": settings}
    before = view.store.read_json(f"{FOLDER}/{view.name}/{RL.folder}/{SETTINGS}")
    if isinstance(before, dict):
        old, new = flat("rl", before), flat("rl", content)
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        differing = [f"{key.removeprefix('rl.')}: {old.get(key)} -> {new.get(key)}" for key in keys]
        if differing and view.read(RL.summary) is not None and not replace:
            raise UserError(
                f"{view.where(RL.folder)} is of another reinforcement: {'; '.join(differing[:8])}. Either "
                f"add --replace, or give this one another run: --set run.name=... --from {view.name}"
            )
        if differing:
            view.clear(RL.folder)
    view.write_json(f"{RL.folder}/{SETTINGS}", content)
