"""Reinforcement: a student samples answers, learns from their rewards, and is measured like any other."""

from __future__ import annotations

import logging

from core import jsonio
from core.data.stage import SplitSettings, split
from core.data.writing import read_examples
from core.evaluation.selection import select
from core.optional import Part
from core.pipeline import phases, reporting, rl_reporting, starting
from core.pipeline.comparing import classical_baselines
from core.pipeline.exporting import (
    bundle_student,
    download_adapter,
    export_checkpoint,
    freeze_decision,
    outcome_of,
    score,
    scored_val,
)
from core.pipeline.outcome import Outcome, Reinforcement
from core.pipeline.phases import RL
from core.pipeline.preflight import preflight
from core.pipeline.rl_forecast import forecast
from core.pipeline.run_folder import RunFolder
from core.pipeline.runners import Runner
from core.pipeline.scorers import Scorer
from core.pipeline.starting import Start
from core.pipeline.training import Evaluations, SegmentChain, Trained
from core.records import SplitName
from core.rl.reward_stage import RewardSettings, reward
from core.rl.segment import PolicySettings, RLSchedule
from core.rl.segment import reinforce as reinforce_segment
from core.stage import StageCall, action
from core.store.manifest import Manifest
from core.store.runs import RunView
from core.student import plan
from core.student.plan import PlannedSegment, PlannedStep

log = logging.getLogger(__name__)


@action("rl-report")
def rl_report(outcome: Outcome, view: RunView) -> str:
    """Write predictions, metrics, the report and the summary into rl_phase/; return where the report is."""
    reporting.write_exports(outcome, view, RL.folder)
    return rl_reporting.write_report(outcome, view)


@action("rl-publish")
def rl_publish(outcome: Outcome, view: RunView) -> list[str]:
    """Replace model/<run>-rl.json and model/rl_latest.json, after everything they name exists."""
    return rl_reporting.publish(outcome, view)


def reinforce(run: Runner, source: str | None = None, *, replace: bool = False) -> Outcome:
    """Reinforce the student that `source` names by the config's `reinforce:`, in the run's rl_phase/.

    `source` is a run whose published student to begin with, latest, base, or None for the run's own. With
    `replace`, what a reinforcement with other settings left in rl_phase/ is replaced.
    """
    config, folder = run.config, RunFolder(run.view, RL, run.trackers)
    preflight(run.context, online=run.executes)
    parts = run.stage(split, SplitSettings.of(config))
    start = starting.find(run.view, config, run.context, parts, source)
    if run.executes:
        starting.claim(run.view, config, start, replace=replace)
    log.info("begins with %s", start)
    for line in forecast(config, run.context, run.store.folder(parts), rows_by_split(parts)):
        log.info("%s", line)

    trained, reinforcement = train_on_rewards(run, folder, parts, start)
    chosen = select(trained.curve, config.evaluation.metric, begun=str(start))
    log.info("%s", chosen.reason)

    others: list[Scorer] = []
    with run.optional(Part.START):
        others += _score_start(run, parts, trained, start, chosen.step)
    others += classical_baselines(run, parts)
    exported = export_checkpoint(run, parts, trained, chosen.step, who="rl", others=others)
    home = download_adapter(run, parts, exported.checkpoint, RL)
    bundled = bundle_student(run, parts, exported, home, phase=RL)

    known = {"kept": None, "encoded": None, "home": home, "bundle": bundled, "reinforcement": reinforcement}
    outcome = outcome_of(run, parts, trained, chosen, exported, **known)
    run.view.forget(slot for slot in run.view.stages() if phases.is_rl(slot) and slot not in run.used)
    run.perform(rl_report, outcome, run.view)
    if config.publish:
        run.perform(rl_publish, outcome, run.view)
    return outcome


def rows_by_split(parts: Manifest) -> dict[str, int]:
    """The number of rows of each split."""
    return {name: sum(labels.values()) for name, labels in parts.summary["labels"].items()}


def train_on_rewards(
    run: Runner, folder: RunFolder, parts: Manifest, start: Start
) -> tuple[Trained, Reinforcement]:
    """Take every segment with its evaluation and its rewards on val; step 0 is the start."""
    config, steps = run.config, planned_policy_steps(run, parts)
    per_epoch = plan.steps_per_epoch(config.reinforce, rows_by_split(parts)["train"])

    def segment(part: PlannedSegment, parent: Manifest | None) -> StageCall:
        begin = {"parent": parent} if parent is not None else {"start": start.checkpoint}
        reference = start.checkpoint if config.reinforce.kl else None
        at = {"first": part.start + 1, "stop": part.stop, "total": len(steps)}
        given = {"schedule": RLSchedule(steps[part.start : part.stop], per_epoch, len(steps))}
        inputs = {"split": parts, **begin, "reference": reference}
        return run.call(reinforce_segment, PolicySettings.of(config), at, given, **inputs)

    def rewarded(step: int) -> StageCall:
        checkpoint = trained.checkpoints.get(step)
        at = {"step": step}
        return run.call(reward, RewardSettings.of(config), at, split=parts, checkpoint=checkpoint)

    def measure_rewards(step: int) -> None:
        call = rewarded(step)
        if (
            run.context.capabilities.checkpoints_expire
            and step in trained.checkpoints
            and run.must_build(call)
        ):
            chain.ensure(step)
            call = rewarded(step)
        rewards[step] = run.do(call)
        folder.rewards(rewards)
        log.info("RL step %d on val: greedy answers earn %s", step, rewards[step].summary["reward_mean"])

    trained = Trained({0: start.checkpoint} if start.checkpoint else {}, {}, [])
    rewards: dict[int, Manifest] = {}
    segments = plan.segments(len(steps), config.reinforce.interval, config.reinforce.save_every)
    chain = SegmentChain(run, trained, segments, segment, folder.reinforce)
    with Evaluations(run, folder, parts, trained, config.reinforce.early_stopping) as evaluations:
        chain.train_all(evaluations, measure_rewards)
    return trained, Reinforcement(start, len(steps), rewards)


def planned_policy_steps(run: Runner, parts: Manifest) -> list[PlannedStep]:
    """The steps over the train texts of a split."""
    examples = read_examples(run.store.file(parts, "train.csv"))
    hashes = [jsonio.digest([e.id, e.text, e.label]) for e in examples]
    labels = [e.label for e in examples]
    return plan.plan(run.config.reinforce, run.config.training_seed, labels, hashes)


def _score_start(run: Runner, parts: Manifest, trained: Trained, start: Start, chosen: int) -> list[Scorer]:
    """The start on the same rows; none if the start itself is chosen."""
    if chosen == 0:
        return []
    who = "rl-start"
    name, title = ("untrained", "Untrained student")
    if start.checkpoint is not None:
        name, title = "start", f"Student before reinforcement (step {start.step})"
    rows: dict[SplitName, Manifest] = {}
    for part in ("val", "test") if "test" in run.config.export.splits else ("val",):
        before = scored_val(run, trained, 0) if part == "val" else None
        rows[part] = score(run, parts, start.checkpoint, part, who, scored=before)
    decision = freeze_decision(run, parts, who, rows["val"])
    return [Scorer(name, title, "untrained", rows, decision)]
