"""The main pipeline: texts and rules in, a measured student out. Reads from top to bottom."""

from __future__ import annotations

import logging

from core.data.stage import SplitSettings, split
from core.evaluation.hardness import HardnessSettings, hardness
from core.evaluation.selection import select
from core.optional import Part
from core.pipeline.comparing import check_label_only_run, compare_baselines
from core.pipeline.estimate import estimate, note_estimate
from core.pipeline.exporting import bundle_student, export_checkpoint
from core.pipeline.outcome import Outcome
from core.pipeline.preflight import preflight, require_inputs
from core.pipeline.reporting import publish, report
from core.pipeline.run_folder import RunFolder, is_rl
from core.pipeline.runners import Runner
from core.pipeline.scorers import Scorer
from core.pipeline.training import train_and_evaluate
from core.records import SplitName
from core.rejection.stage import RejectSettings, ensure_usable, reject
from core.report.sections.training import dropped
from core.store.manifest import Manifest
from core.student.stage import EncodeStageSettings, EncodeSummary, encode
from core.teacher.stage import SampleSettings, sample

log = logging.getLogger(__name__)


def distill(run: Runner) -> Outcome | None:
    """Run every stage in order; returns None if the last stages are switched off."""
    config, last = run.config, run.switches.last
    folder = RunFolder(run.view, trackers=run.trackers)
    preflight(run.context, online=run.executes)
    require_inputs(run)
    if last == "export":
        check_label_only_run(run)

    parts = run.stage(split, SplitSettings.of(config))
    if last == "split":
        return None
    if last == "export":
        check_label_only_run(run, parts)

    answers = run.stage(sample, SampleSettings.of(config), split=parts)
    labels = label_splits(run, parts)
    if last == "sample":
        return None

    kept = run.stage(reject, RejectSettings.of(config), split=parts, sample=answers)
    if run.exists(kept):
        folder.teacher(kept)
        ensure_usable(dict(kept.summary))
    if last == "reject":
        return None

    encoded = run.stage(encode, EncodeStageSettings.for_training(config.student, config.seed), reject=kept)
    if run.exists(encoded):
        lost = dropped(EncodeSummary.from_json(encoded.summary, encoded.path))
        if lost is not None:
            log.warning("%s", lost)
    if run.executes and run.context.capabilities.metered:
        with run.optional(Part.ESTIMATE):
            note_estimate(run.view, estimate(distill, run))
    if last == "encode":
        return None

    trained = train_and_evaluate(run, folder, parts, encoded)
    if last == "train":
        return None
    chosen = select(trained.curve, config.evaluation.metric)
    log.log(logging.INFO if run.executes else logging.DEBUG, "%s", chosen.reason)
    if last == "evaluate":
        return None

    others = compare_baselines(run, parts, trained, labels)
    exported = export_checkpoint(run, parts, trained, chosen.step, "student", others)
    hard = analyse_hard_texts(run, parts, {"train": kept, **labels}, exported.modes[0])
    home, bundled = bundle_student(run, parts, exported, kept=kept, encoded=encoded)
    learned = {"kept": kept, "encoded": encoded, "hard": hard}
    outcome = Outcome.of(run, parts, trained, chosen, exported, home=home, bundle=bundled, **learned)
    run.view.keep_only([*run.used, *filter(is_rl, run.view.stages())])
    run.perform(report, outcome)
    if config.publish:
        run.perform(publish, outcome)
    return outcome


def label_splits(run: Runner, parts: Manifest) -> dict[SplitName, Manifest]:
    """The teacher's answers to each split in teacher.label_splits; one that fails is left out."""
    found: dict[SplitName, Manifest] = {}
    for name in run.config.teacher.label_splits:
        call = run.call(sample, SampleSettings.of(run.config, name), split=parts)
        with run.optional(Part.TEACHER, name):
            run.do(call)
        if call.slot in run.used:  # also if only the files in the run's folder could not be written
            found[name] = run.used[call.slot]
    return found


def analyse_hard_texts(
    run: Runner, parts: Manifest, answers: dict[SplitName, Manifest], student: Scorer
) -> dict[SplitName, Manifest]:
    """The student's results on texts that were hard for the teacher, by split; one that fails is left out.

    `answers` are of the reject stage for train and of the sample stage for other splits. For gold labels no
    text is hard.
    """
    found: dict[SplitName, Manifest] = {}
    for name, of in answers.items() if run.config.teacher.kind != "gold" else ():
        with run.optional(Part.HARDNESS, name):
            measured = name in student.rows and student.decision is not None
            scored = {"scored": student.rows[name], "decision": student.decision} if measured else {}
            at, settings = {"who": "student"}, HardnessSettings.of(run.config, name)
            found[name] = run.stage(hardness, settings, at, split=parts, answers=of, **scored)
    return found
