"""Builds the stages of the small project one after another, without Prefect."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from core import jsonio
from core.config import ConfigSection
from core.config.loading import load
from core.data.stage import SplitSettings, split
from core.evaluation.analysis import AnalyseSettings, analyse
from core.evaluation.baselines import BaselineSettings, baseline
from core.evaluation.decision import DecideSettings, decide
from core.evaluation.embeddings import EmbedSettings, embed
from core.evaluation.slices import HardnessSettings, hardness
from core.evaluation.student_scores import ExplainSettings, MeasureSettings, evaluate, explain, export
from core.export.stage import AdapterSettings, BundleSettings, adapter, bundle
from core.pipeline.exporting import Scorer
from core.pipeline.run_context import STUDENT, RunContext
from core.progress import Silent
from core.records import SplitName, read_examples
from core.rejection.stage import RejectSettings, reject
from core.rl.stages import PolicySettings, RewardSettings, reinforce, reward
from core.stage import Stage, StageCall, build
from core.store import Manifest, Store
from core.student.encode_stage import DATA_FILE, EncodeStageSettings, encode, read_data, read_set
from core.student.train_stage import (
    PlannedSegment,
    PlannedStep,
    SegmentSettings,
    SegmentWork,
    plan_segments,
    plan_steps,
    train,
)
from core.teacher.stage import SampleSettings, sample
from tests.small_project import texts, write_project

# A text of its own, so that new words in prompts/default.yaml are no change of any stage's output.
_PROMPTS = """\
task_instruction: Decide whether the rules apply (1) or not (0).
teacher_system: You apply a policy.
teacher_user: "{{ task_instruction }} {{ rulebook }} Text: {{ text }}"
teacher_hint: "The answer is {{ gold }}."
student_system: "You judge texts. {{ task_instruction }}"
student_user: "Text: {{ text }} Label and reason:"
student_user_with_rulebook: "Rules: {{ rulebook }} Text: {{ text }} Label and reason:"
student_label_only_user: "Text: {{ text }} Label:"
student_label_only_user_with_rulebook: "Rules: {{ rulebook }} Text: {{ text }} Label:"
"""
# The processor decides neither the device nor the number format here.
BASE = (
    "prompts.file=prompts.yaml",
    "evaluation.interval=3",
    "student.engine={device: cpu, train_dtype: float32}",
    "student.learning_rate=0.03",
)


@dataclass(frozen=True, slots=True)
class Made:
    """A config, its store, and the calls and manifests of all stages by slot."""

    config: Path
    store: Store
    stages: Mapping[str, StageCall]
    manifests: Mapping[str, Manifest]

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.config.parent


# A student that answers in form learns something in two steps of reinforcement.
POLICY = (
    "student.model=./answering",
    "student.target=label_only",
    "reinforce.steps=2",
    "reinforce.batch_size=4",
    "reinforce.group_size=4",
    "reinforce.max_new_tokens=12",
    "reinforce.learning_rate=0.02",
    "reinforce.reward_rows=6",
)


def write_small_project(folder: Path, model: Path, answering: Path) -> Path:
    """The small project with models and prompts inside it, so that no output names another place.

    `answering` is a model that answers in form; see tests.answering_model.
    """
    shutil.copytree(answering, folder / "answering")
    shutil.copytree(model, folder / "model")
    _sharpen(folder / "model/model.safetensors")
    (folder / "prompts.yaml").write_text(_PROMPTS)
    config = write_project(folder, "./model")
    _spoil(folder)
    return config


def _spoil(folder: Path) -> None:
    """Add a duplicate text, a wrong label, a quote that is not in the text, and an answer without a rule."""
    with (folder / "texts.csv").open("a", newline="") as f:
        csv.writer(f).writerow(("t60", *texts()[1][1:]))
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    answers[1]["label"] = 1
    answers[4]["reasoning"] = 'It says "lottery", which is not allowed [R1].'
    answers[6]["reasoning"] = "Nobody asked for this prize."
    (folder / "answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))


def _sharpen(weights: Path) -> None:
    """Scale the embeddings, so that few steps teach the random model something and its scores lie
    far enough apart for the processor's last bits not to change their order."""
    tensors = load_file(weights)
    tensors["model.embed_tokens.weight"] *= 30
    save_file(tensors, weights, metadata={"format": "pt"})


def context(config: Path, overrides: Sequence[str] = ()) -> RunContext:
    """The small project with changed settings; its folder is the working directory."""
    return RunContext(load(config, [*BASE, *overrides]).config)


class Maker:
    """Builds stages in a store and remembers them by slot."""

    def __init__(self, store: Store, of: RunContext) -> None:
        self.store, self.of = store, of
        self.stages: dict[str, StageCall] = {}
        self.manifests: dict[str, Manifest] = {}

    def make(
        self,
        stage: Stage[Any],
        settings: ConfigSection,
        at: Mapping[str, Any] | None = None,
        given: object = None,
        /,
        **inputs: Manifest | None,
    ) -> Manifest:
        """One stage's object."""
        call = stage.call(settings, self.of, at, given, **inputs)
        manifest = build(self.store, call, Silent()).manifest
        self.stages[call.slot], self.manifests[call.slot] = call, manifest
        return manifest


def make_texts(maker: Maker) -> None:
    """The stages that need no engine: split, sample, reject, encode."""
    config = maker.of.config
    parts = maker.make(split, SplitSettings.of(config))
    answers = maker.make(sample, SampleSettings.of(config), split=parts)
    kept = maker.make(reject, RejectSettings.of(config), split=parts, sample=answers)
    maker.make(encode, EncodeStageSettings.for_training(config.student, config.seed), reject=kept)


def segment(
    steps: Sequence[PlannedStep], part: PlannedSegment, data: Path
) -> tuple[dict[str, int], SegmentWork]:
    """`at` and `given` of a call of train."""
    work = SegmentWork(steps[part.start : part.stop], len(steps), partial(read_data, data / DATA_FILE))
    return work.at, work


def planned(of: RunContext, data: Path) -> tuple[list[PlannedStep], list[PlannedSegment]]:
    """The steps over encoded examples, and their segments."""
    config, encoded = of.config, read_set(data / DATA_FILE)
    steps = plan_steps(config.student, config.training_seed, encoded.labels, encoded.hashes)
    return steps, plan_segments(len(steps), config.evaluation.interval, config.student.save_every)


def policy(of: RunContext, store: Store, parts: Manifest) -> list[tuple[dict[str, int], SegmentWork]]:
    """`at` and `given` of each call of reinforce."""
    config = of.config.reinforce
    examples = read_examples(store.file(parts, "train.csv"))
    hashes = [jsonio.digest([e.id, e.text, e.label]) for e in examples]
    steps = plan_steps(config, of.config.training_seed, [e.label for e in examples], hashes)
    segments = plan_segments(len(steps), config.interval, config.save_every)
    works = [SegmentWork(steps[part.start : part.stop], len(steps)) for part in segments]
    return [(work.at, work) for work in works]


def make_all(config: Path) -> Made:
    """Build every stage of the small project: two segments, and an export in both modes."""
    of = context(config)
    maker = Maker(Store.open(of.config.run.root), of)
    make_texts(maker)
    parts, kept, encoded = (maker.manifests[name] for name in ("split", "reject", "encode"))
    data = maker.store.folder(encoded)
    (steps, segments), tip = planned(of, data), None
    for part in segments:
        tip = maker.make(train, SegmentSettings.of(of.config), *segment(steps, part, data), parent=tip)
    assert tip is not None
    on = {"split": parts, "checkpoint": tip}
    at = {"phase": STUDENT, "step": len(steps), "who": "student"}
    scored = maker.make(evaluate, MeasureSettings.for_evaluation(of.config), at, **on)
    val = maker.make(export, _exported(of, "val"), at, **on, scored=scored)
    test = maker.make(export, _exported(of, "test"), at, **on)
    maker.make(export, MeasureSettings.for_export(of.config, "test", label_only=True), at, **on)
    classical = maker.make(baseline, BaselineSettings(seed=of.config.seed), split=parts)
    who = {"who": "student/reasoning"}
    frozen = maker.make(decide, DecideSettings.of(of.config), who, split=parts, scored=val)
    student = Scorer("student", "Student", "student", {"val": val, "test": test}, frozen)
    words = _words(maker, parts, classical)
    analysis = maker.make(
        analyse,
        analysed(of, [student, words]),
        at,
        split=parts,
        **student.inputs("test"),
        **words.inputs("test"),
    )
    maker.make(explain, ExplainSettings.of(of.config, "test"), at, **on, scored=test, decision=frozen)
    settings = BundleSettings.of(of.config, label_only=False)
    learned = {"kept": kept, "encoded": encoded, "scored": val, "decision": frozen, "analysis": analysis}
    maker.make(bundle, settings, at, **on, **learned)
    _look_into_hard_texts(maker, tip, student)
    of.live.close()
    _reinforce(config, maker)
    return Made(config, maker.store, maker.stages, maker.manifests)


def _exported(of: RunContext, name: SplitName) -> MeasureSettings:
    return MeasureSettings.for_export(of.config, name, generates=True)


def analysed(of: RunContext, scorers: Sequence[Scorer]) -> AnalyseSettings:
    """The settings of an analysis of test."""
    return AnalyseSettings(
        split="test",
        scorers=tuple(scorer.settings("test") for scorer in scorers),
        rule_ids=of.rulebook.ids,
        seed=of.config.seed,
    )


def _reinforce(config: Path, maker: Maker) -> None:
    """Reinforce the base model by one segment, and reward its answers."""
    of = maker.of = context(config, POLICY)
    parts = maker.manifests["split"]
    (call,) = policy(of, maker.store, parts)
    tip = maker.make(reinforce, PolicySettings.of(of.config), *call, split=parts)
    at = {"step": call[0]["total"]}
    maker.make(reward, RewardSettings.of(of.config), at, split=parts, checkpoint=tip)
    of.live.close()


def _look_into_hard_texts(maker: Maker, tip: Manifest, student: Scorer) -> None:
    """Analyze the hard texts of train and test; their inputs have golden files of their own stages."""
    of, parts, kept = maker.of, maker.manifests["split"], maker.manifests["reject"]
    settings, at = _exported(of, "train"), {"who": "student"}
    on_train = export.call(settings, of, at, split=parts, checkpoint=tip)
    train_rows = build(maker.store, on_train, Silent()).manifest
    asked = sample.call(SampleSettings.of(of.config, "test"), of, split=parts)
    answers = build(maker.store, asked, Silent()).manifest
    frozen = {"split": parts, "decision": student.decision}
    hard = HardnessSettings.of(of.config, "train")
    maker.make(hardness, hard, at, answers=kept, scored=train_rows, **frozen)
    hard = HardnessSettings.of(of.config, "test")
    maker.make(hardness, hard, at, answers=answers, scored=student.rows["test"], **frozen)


def _words(maker: Maker, parts: Manifest, classical: Manifest) -> Scorer:
    file = "tfidf_words_{split}.jsonl"
    settings = DecideSettings.of(maker.of.config, file.format(split="val"))
    frozen = maker.make(decide, settings, {"who": "tfidf_words"}, split=parts, scored=classical)
    return Scorer("tfidf_words", "Words", "baseline", {"test": classical}, frozen, file=file)


def keys(of: RunContext, manifests: Mapping[str, Manifest], store: Store) -> dict[str, str]:
    """The key of every stage, all inputs being those of `manifests`; of a chain its first segment.

    evaluate and export measure the last checkpoint in `manifests`, or the untrained model.
    """
    config, parts = of.config, manifests["split"]
    tips = [manifest for slot, manifest in manifests.items() if slot.startswith("train/")]
    tip = tips[-1] if tips else None
    data = store.folder(manifests["encode"])
    steps, segments = planned(of, data)
    encoder = config.baselines.encoder
    majority = Scorer("majority", "Majority", "baseline", {"test": parts}, threshold=0.5)
    on = {"split": parts, "checkpoint": tip}
    learned = {"kept": parts, "encoded": parts, "scored": parts, "decision": parts, "analysis": parts}
    calls = [
        split.call(SplitSettings.of(config), of),
        sample.call(SampleSettings.of(config), of, split=parts),
        reject.call(RejectSettings.of(config), of, split=parts, sample=manifests["sample"]),
        encode.call(
            EncodeStageSettings.for_training(config.student, config.seed), of, reject=manifests["reject"]
        ),
        train.call(SegmentSettings.of(config), of, *segment(steps, segments[0], data)),
        evaluate.call(MeasureSettings.for_evaluation(config), of, **on),
        export.call(MeasureSettings.for_export(config, "test", generates=tip is not None), of, **on),
        *([] if encoder is None else [embed.call(EmbedSettings(encoder=encoder), of, split=parts)]),
        baseline.call(BaselineSettings(seed=config.seed), of, split=parts),
        decide.call(DecideSettings.of(config), of, split=parts, scored=parts),
        analyse.call(analysed(of, [majority]), of, split=parts, majority=parts),
        hardness.call(HardnessSettings.of(config, "test"), of, split=parts, answers=parts),
        reinforce.call(PolicySettings.of(config), of, *policy(of, store, parts)[0], **_begin(of, parts, tip)),
        reward.call(RewardSettings.of(config), of, **on),
        bundle.call(BundleSettings.of(config, label_only=False), of, **on, **learned),
    ]
    if tip is not None:
        calls.append(explain.call(ExplainSettings.of(config, "test"), of, **on, scored=parts))
    if of.capabilities.remote and tip is not None:
        calls.append(adapter.call(AdapterSettings.of(config), of, **on))
    return {call.name: call.key for call in calls}


def _begin(of: RunContext, parts: Manifest, tip: Manifest | None) -> dict[str, Manifest | None]:
    return {"split": parts, "start": tip, "reference": tip if of.config.reinforce.kl else None}
