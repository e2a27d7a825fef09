"""The small project's stages, built and made without Prefect, one after another."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.numpy import load_file, save_file

from core.config.loading import load
from core.pipeline.bundling import bundle
from core.pipeline.scorers import Scorer
from core.pipeline.stages import Pipeline
from core.progress import Silent
from core.stages import Stage, make
from core.store.manifest import Manifest
from core.store.objects import Store
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
    """The config and the store they were made in, and stages with their manifests, by slot."""

    config: Path
    store: Store
    stages: Mapping[str, Stage]
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
    """A text that stands twice, a wrong label, a quotation that is not in the text, a missing rule."""
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


def pipeline(config: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline of the small project with changes; its folder is the working directory."""
    return Pipeline(load(config, [*BASE, *overrides]).config)


class Maker:
    """Makes stages in a store and remembers them by slot."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.stages: dict[str, Stage] = {}
        self.manifests: dict[str, Manifest] = {}

    def make(self, stage: Stage) -> Manifest:
        """One stage's object."""
        manifest = make(self.store, stage, Silent()).manifest
        self.stages[stage.slot], self.manifests[stage.slot] = stage, manifest
        return manifest


def make_texts(of: Pipeline, maker: Maker) -> None:
    """The stages that need no engine: split, sample, reject, encode."""
    split = maker.make(of.split())
    sample = maker.make(of.sample(split))
    reject = maker.make(of.reject(split, sample))
    maker.make(of.encode(reject))


def make_all(config: Path) -> Made:
    """Every stage of the small project: two segments, and an export in either mode."""
    of = pipeline(config)
    maker = Maker(Store.open(of.config.run.root))
    make_texts(of, maker)
    split = maker.manifests["split"]
    data = maker.store.folder(maker.manifests["encode"])
    steps, tip = of.plan(data), None
    for part in of.segments(steps):
        tip = maker.make(of.train(part, steps, tip, data))
    scored = maker.make(of.measuring.evaluate(split, tip, len(steps)))
    val = maker.make(of.measuring.export(split, tip, "val", scored=scored))
    test = maker.make(of.measuring.export(split, tip, "test"))
    maker.make(of.measuring.export(split, tip, "test", label_only=True))
    baseline = maker.make(of.measuring.baseline(split))
    frozen = maker.make(of.measuring.decide(split, "student/reasoning", val))
    student = Scorer("student", "Student", "student", {"val": val, "test": test}, frozen)
    words = _words(of, maker, split, baseline)
    analysis = maker.make(of.measuring.analyse(split, [student, words], "test"))
    assert tip is not None
    maker.make(of.measuring.explain(split, tip, student, "test"))
    maker.make(
        bundle(
            of.measuring,
            split,
            maker.manifests["reject"],
            tip,
            student,
            analysis,
            encoded=maker.manifests["encode"],
        )
    )
    _look_into_hard_texts(of, maker, tip, student)
    of.live.close()
    _reinforce(config, maker)
    return Made(config, maker.store, maker.stages, maker.manifests)


def _reinforce(config: Path, maker: Maker) -> None:
    """One segment from the base model, and what its answers earn then."""
    of, split = pipeline(config, POLICY), maker.manifests["split"]
    steps = of.reinforcing.plan(maker.store.folder(split))
    (part,) = of.reinforcing.segments(steps)
    tip = maker.make(of.reinforcing.reinforce(part, steps, split, None, None))
    maker.make(of.reinforcing.reward(split, tip, len(steps)))
    of.live.close()


def _look_into_hard_texts(of: Pipeline, maker: Maker, tip: Manifest, student: Scorer) -> None:
    """Of train and of test; what they are made of here has golden files elsewhere."""
    split, reject = maker.manifests["split"], maker.manifests["reject"]
    train = make(maker.store, of.measuring.export(split, tip, "train"), Silent()).manifest
    asked = make(maker.store, of.sample(split, "test"), Silent()).manifest
    on_train = replace(student, rows={**student.rows, "train": train})
    maker.make(of.measuring.hardness(split, reject, on_train, "train"))
    maker.make(of.measuring.hardness(split, asked, student, "test"))


def _words(of: Pipeline, maker: Maker, split: Manifest, baseline: Manifest) -> Scorer:
    file = "tfidf_words_{split}.jsonl"
    frozen = maker.make(of.measuring.decide(split, "tfidf_words", baseline, file.format(split="val")))
    return Scorer("tfidf_words", "Words", "baseline", {"test": baseline}, frozen, file=file)


def _somebody(rows: Manifest) -> Scorer:
    """Somebody to analyse; of which objects is no config field's to say."""
    return Scorer("majority", "Majority", "baseline", {"test": rows}, threshold=0.5)


def keys(of: Pipeline, manifests: Mapping[str, Manifest], store: Store) -> dict[str, str]:
    """The key of every stage, all inputs being those of `manifests`; of a chain its first segment.

    evaluate and export measure the last checkpoint in `manifests`, or the untrained model.
    """
    split = manifests["split"]
    tips = [manifest for slot, manifest in manifests.items() if slot.startswith("train/")]
    tip = tips[-1] if tips else None
    data = store.folder(manifests["encode"])
    steps = of.plan(data)
    stages = [
        of.split(),
        of.sample(split),
        of.reject(split, manifests["sample"]),
        of.encode(manifests["reject"]),
        of.train(of.segments(steps)[0], steps, None, data),
        of.measuring.evaluate(split, tip, 6),
        of.measuring.export(split, tip, "test"),
        of.measuring.baseline(split),
        of.measuring.decide(split, "student/reasoning", split),
        of.measuring.analyse(split, [_somebody(split)], "test"),
        of.measuring.hardness(split, split, _somebody(split), "test"),
    ]
    policy = of.reinforcing.plan(store.folder(split))
    stages.append(of.reinforcing.reinforce(of.reinforcing.segments(policy)[0], policy, split, None, tip))
    stages.append(of.reinforcing.reward(split, tip, 6))
    if tip is not None:
        stages.append(of.measuring.explain(split, tip, _somebody(split), "test"))
    published = Scorer("student", "Student", "student", {"val": split}, split)
    stages.append(bundle(of.measuring, split, split, tip, published, split, encoded=split))
    if of.capabilities.remote and tip is not None:
        stages.append(of.measuring.adapter(split, tip))
    return {stage.name: stage.key for stage in stages}
