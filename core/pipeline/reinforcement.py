"""Reinforcement: a student samples answers, learns from their rewards, and is measured like any other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

from core import jsonio
from core.config import differences
from core.data.stage import FILE as SPLIT_SUMMARY
from core.data.stage import SplitSettings, SplitSummary, split
from core.errors import MissingInputError, Part, UserError
from core.evaluation.decision import select
from core.export.run_files import PointerStart, read_start
from core.pipeline.distillation import conclude
from core.pipeline.exporting import (
    Scorer,
    bundle_student,
    classical_baselines,
    export_checkpoint,
    score,
    score_untrained,
    scored_val,
)
from core.pipeline.opening import run_config
from core.pipeline.outcome import Outcome, Reinforcement, Start
from core.pipeline.plan_runners import unpriced
from core.pipeline.run_context import RL
from core.pipeline.runners import Runner
from core.pipeline.training_loop import Histories, Trained, TrainingLoop
from core.records import read_examples, scan_examples
from core.report import plural
from core.rl.rewards import ValRewards
from core.rl.stages import PolicySettings, RewardSettings, reward
from core.rl.stages import reinforce as reinforce_segment
from core.stage import StageCall, flat
from core.store import Manifest, RunView
from core.store.run_view import FOLDER
from core.student.train_stage import PlannedSegment, SegmentWork, plan_segments, plan_steps, total_steps

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
            name, title = "untrained", "Untrained student"
            if start.checkpoint is not None:
                name, title = "start", f"Student before reinforcement (step {start.step})"
            who, checkpoint = "rl-start", start.checkpoint
            val = score(run, parts, checkpoint, "val", who, scored=scored_val(run, trained, 0))
            others.append(score_untrained(run, parts, name, title, val, who=who, checkpoint=checkpoint))
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
        work = SegmentWork(steps[part.start : part.stop], len(steps))
        inputs = {"split": parts, **begin, "reference": reference}
        return run.call(reinforce_segment, PolicySettings.of(config), work.at, work, **inputs)

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
    before = view.read_json(f"{RL.folder}/{SETTINGS}")
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


def forecast_reinforcement(run: Runner, parts: Manifest) -> Iterator[str]:
    """The steps, answers and tokens of reinforcement, and on a server their price, in lines.

    Prompts are counted as in the first 200 texts of train, answers at their longest; an early end costs less.
    """
    config, of = run.config, run.config.reinforce
    sizes = SplitSummary.read(run.store.file(parts, SPLIT_SUMMARY)).used_split_summary
    texts, val_texts = (sizes[name].count for name in ("train", "val"))
    steps = total_steps(of, texts)
    asked = steps * of.batch_size * of.group_size
    longest, updates = of.max_new_tokens, plural(of.substeps, "update")
    yield (
        f"reinforce: {steps:,} steps of {of.batch_size} texts, {of.group_size} answers each: {asked:,} "
        f"answers of up to {longest} tokens, {updates} a step"
    )
    first = islice(scan_examples(run.store.file(parts, "train.csv")), 200)
    prompts = run.context.encoder().prompts([e.text for e in first], longest)
    lengths = [len(each.tokens) for each in prompts]
    prompt = round(sum(lengths) / max(len(lengths), 1))

    evaluations = sum(part.evaluate for part in plan_segments(steps, of.interval, of.save_every)) + 1
    val = min(config.evaluation.max_examples or val_texts, val_texts)
    rewarded = min(of.reward_rows, val_texts)
    reasons = config.student.target == "reason_first"
    trained = asked * (prompt + longest) * of.substeps
    metered = run.context.capabilities.metered
    # A metered engine bills a prompt once for all answers of its group.
    prefilled = (steps * of.batch_size if metered else asked) * prompt
    prefilled += trained // of.substeps if of.kl else 0
    prefilled += evaluations * (val * (2 if reasons else 1) + rewarded) * prompt
    sampled = asked * longest + evaluations * rewarded * longest
    sampled += evaluations * val * config.evaluation.max_new_tokens if reasons else 0
    yield (
        f"at most {trained:,} tokens trained, {sampled:,} sampled, {prefilled:,} prompt tokens; on val "
        f"{evaluations} evaluations of {val:,} texts and {rewarded:,} rewarded answers"
    )
    if not metered:
        return
    price = run.context.engine.price
    if price is None:
        yield unpriced(config)
    else:
        usd = price.usd(trained, prefilled, sampled)
        yield f"at most about US$ {usd:.2f}, without the final evaluation of the other splits"
