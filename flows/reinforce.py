"""Reinforcement: a student samples answers, learns from what they earn, and is measured like any other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from core.config import Config
from core.evaluation.selection import select
from core.optional import Part
from core.pipeline import phases, rl_reporting, starting
from core.pipeline.outcome import Outcome, Reinforcement
from core.pipeline.phases import RL
from core.pipeline.rl_forecast import forecast
from core.pipeline.scorers import Scorer
from core.pipeline.starting import Start
from core.pipeline.views import View
from core.records import SplitName
from core.store.manifest import Manifest
from flows.comparing import classical
from flows.evaluating import Evaluations
from flows.execution import Execution, execution
from flows.exporting import (
    bundle_student,
    decided,
    download_adapter,
    export_checkpoint,
    outcome_of,
    score,
    scored_val,
)
from flows.parameters import resolved_of
from flows.showing import explaining, flow_run_name
from flows.submitting import TWO_THREADS
from flows.switches import switches
from flows.training import Chain, Course, follow
from flows.walking import Trained
from tasks.rl_report import rl_publish, rl_report

log = logging.getLogger(__name__)


@flow(name="reinforce", flow_run_name=flow_run_name, persist_result=False, task_runner=TWO_THREADS)
def reinforce(
    config: Config,
    data: str | None = None,
    start: str | None = None,
    refresh: Sequence[str] = (),
    replace: bool = False,
) -> str:
    """Reinforce a student by a config's `reinforce:`, in the run's rl_phase/, and return where its report is.

    Args:
        config: Everything that decides the run; relative paths are relative to the working directory.
        data: A table instead of data.path, data.dir or data.files; the run is then called
            <run.name>-<the table's name>.
        start: A run whose published student to begin with, latest, or base; by default the run's own.
        refresh: Stages that are made again although they are whole.
        replace: Replace what a reinforcement with other settings left in rl_phase/.
    """
    resolved = resolved_of(config, data)
    off = switches(resolved.config.stages, (), (), refresh)
    with explaining(resolved.run_name, "reinforce", "reinforce"), execution(resolved, off) as run:
        outcome = _reinforced(run, start, replace=replace)
        concluded(run, outcome)
        return run.view.where(rl_reporting.page_of(outcome))


def concluded(run: Execution, outcome: Outcome) -> None:
    """End trackers and show the report in Prefect; what fails only now is added to the report."""
    before = len(run.failures)
    run.trackers.finish(run.view)
    with run.optional(Part.ARTIFACT, "rl-report"):
        if (report := run.view.read(rl_reporting.REPORT)) is not None:
            create_markdown_artifact(key="rl-report", markdown=report, description=run.view.name)
    if len(run.failures) > before:
        run.perform(rl_report, outcome, run.view)


def _reinforced(run: Execution, source: str | None, *, replace: bool) -> Outcome:
    view, build = View(run.view, RL, run.trackers), run.pipeline
    build.preflight()
    parts = run.do("split", build.split, "data_splits/train.csv")
    view.split(parts)
    start = starting.find(run.view, run.config, build.bench, parts, source)
    starting.claim(run.view, run.config, start, replace=replace)
    log.info("begins with %s", start)
    counts = {name: sum(labels.values()) for name, labels in parts.summary["labels"].items()}
    for line in forecast(run.config, build.bench, run.folder(parts), counts):
        log.info("%s", line)

    trained, reinforcement = train(run, view, parts, start)
    chosen = select(trained.curve, run.config.evaluation.metric, begun=str(start))
    log.info("%s", chosen.reason)

    others: list[Scorer] = []
    with run.optional(Part.START):
        others += _start(run, parts, trained, start, chosen.step)
    others += classical(run, parts)
    exported = export_checkpoint(run, parts, trained, chosen.step, who="rl", others=others)
    home = download_adapter(run, view, parts, exported.checkpoint)
    bundle = bundle_student(run, view, parts, None, exported, home)
    known = {"kept": None, "encoded": None, "home": home, "bundle": bundle, "reinforcement": reinforcement}
    outcome = outcome_of(run, parts, trained, chosen, exported, **known)
    run.view.forget(slot for slot in run.view.stages() if phases.is_rl(slot) and slot not in run.used)
    run.perform(rl_report, outcome, run.view)
    if run.config.publish:
        run.perform(rl_publish, outcome, run.view)
    return outcome


def train(run: Execution, view: View, parts: Manifest, start: Start) -> tuple[Trained, Reinforcement]:
    """Every segment with its evaluation and its rewards on val; step 0 is the start."""
    build = run.pipeline.reinforcing
    steps = build.plan(run.folder(parts))
    trained = Trained({0: start.checkpoint} if start.checkpoint else {}, {}, [])
    course = Course(
        build.segments(steps),
        lambda part, parent: build.reinforce(part, steps, parts, parent, start.checkpoint),
        view.reinforce,
        f"{RL.folder}/rl_history.jsonl",
    )
    rewards: dict[int, Manifest] = {}

    def reward(step: int) -> None:
        stage = build.reward(parts, trained.checkpoints.get(step), step)
        if (
            run.pipeline.capabilities.checkpoints_expire
            and step in trained.checkpoints
            and run.must_make(stage)
        ):
            chain.ensure(step)
            stage = build.reward(parts, trained.checkpoints[step], step)
        rewards[step] = run.do_built(stage, f"{RL.folder}/val_rewards.jsonl")
        view.rewards(rewards)
        log.info("RL step %d on val: greedy answers earn %s", step, rewards[step].summary["reward_mean"])

    with Evaluations(run, view, parts, trained, run.config.reinforce.early_stopping) as evaluations:
        chain = Chain(run, trained, course, evaluations.measure)
        follow(chain, evaluations, reward)
    return trained, Reinforcement(start, len(steps), rewards)


def _start(run: Execution, parts: Manifest, trained: Trained, start: Start, chosen: int) -> list[Scorer]:
    """What was begun with, on the same rows; none where nothing is chosen before it."""
    if chosen == 0:
        return []
    who = "rl-start"
    name, title = ("untrained", "Untrained student")
    if start.checkpoint is not None:
        name, title = "start", f"Student before reinforcement (step {start.step})"
    rows: dict[SplitName, Manifest] = {}
    for split in ("val", "test") if "test" in run.config.export.splits else ("val",):
        before = scored_val(run, trained, 0) if split == "val" else None
        rows[split] = score(run, parts, start.checkpoint, split, who, scored=before)
    return [Scorer(name, title, "untrained", rows, decided(run, parts, who, rows["val"]))]


if __name__ == "__main__":
    import sys

    from flows.cli import main

    main(["reinforce", *sys.argv[1:]])
