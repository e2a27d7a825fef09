"""The stages that measure: checkpoints and baselines on the splits, and the adapter held to its server."""

from __future__ import annotations

from collections.abc import Sequence

from core.config import Config
from core.evaluation import analyse_stage, baseline_stage, decide_stage, explain_stage, hardness_stage
from core.evaluation import stage as measure_stage
from core.evaluation.stage import SCORES, MeasureRun, MeasureSlice
from core.export import adapter as adapter_stage
from core.optional import Part
from core.pipeline.phases import STUDENT, Phase
from core.pipeline.scorers import Scorer
from core.pipeline.workbench import Workbench
from core.records import SplitName
from core.stages import Stage
from core.store.manifest import Manifest
from core.student.encoding import EncodeSlice


class Measuring:
    """Builds the measuring stages of one run."""

    def __init__(self, config: Config, bench: Workbench) -> None:
        self.config, self.bench = config, bench

    def evaluate(
        self, split: Manifest, checkpoint: Manifest | None, step: int, phase: Phase = STUDENT
    ) -> Stage:
        """Measure a checkpoint on val; without one, the untrained model."""
        evaluation = self.config.evaluation
        part = self._slice(
            "val",
            label_only=False,
            measured=True,
            max_examples=evaluation.max_examples,
            max_new_tokens=evaluation.max_new_tokens,
        )
        slot, label = f"evaluate/{phase.slot}{step}", f"evaluate {phase.said}step {step} on val"
        return self._scoring(measure_stage.EVALUATE, part, split, checkpoint, slot=slot, label=label)

    def export(
        self,
        split: Manifest,
        checkpoint: Manifest | None,
        name: SplitName,
        *,
        label_only: bool = False,
        scored: Manifest | None = None,
        who: str = "student",
        rulebook: bool | None = None,
    ) -> Stage:
        """Score one split by a checkpoint; without one, by the untrained model.

        `rulebook` shows it, or not, whatever the student's own prompt does; `scored` are the same rows
        as they were scored before.
        """
        mode = "label_only" if label_only else "reasoning"
        generates = not label_only and checkpoint is not None
        part = self._slice(
            name,
            label_only=label_only,
            max_new_tokens=self.max_new_tokens,
            reasoning_rows=self.config.export.reasoning_rows if generates else 0,
            rulebook=rulebook,
        )
        return self._scoring(
            measure_stage.EXPORT,
            part,
            split,
            checkpoint,
            scored=scored,
            slot=f"export/{who}/{name}/{mode}",
            label=f"export {who} on {name}, {mode}",
        )

    def decide(self, split: Manifest, who: str, scored: Manifest, file: str = SCORES) -> Stage:
        """Calibration and threshold of a scorer, from its scores of val."""
        evaluation = self.config.evaluation
        part = decide_stage.DecideSlice(
            threshold=evaluation.threshold,
            calibration=evaluation.calibration,
            scores=file,
            seed=self.config.seed,
        )
        return Stage(
            decide_stage.NAME,
            decide_stage.VERSION,
            part,
            {},
            {"split": split, "scored": scored},
            decide_stage.run,
            slot=f"decide/{who}",
            label=f"decide the threshold of {who}",
        )

    def analyse(
        self,
        split: Manifest,
        scorers: Sequence[Scorer],
        name: SplitName,
        who: str = "student",
        without: tuple[Part, ...] = (),
    ) -> Stage:
        """All that is said of the scorers on one split, the first against each other one.

        `without` are optional parts that failed.
        """
        part = analyse_stage.AnalyseSlice(
            split=name,
            scorers=tuple(scorer.slice(name) for scorer in scorers),
            rule_ids=self.bench.rulebook.ids,
            seed=self.config.seed,
            without=without,
        )
        inputs = {"split": split}
        for scorer in scorers:
            inputs |= scorer.inputs(name)
        return Stage(
            analyse_stage.NAME,
            analyse_stage.VERSION,
            part,
            {},
            inputs,
            analyse_stage.run,
            slot=f"analyse/{who}",
            label=f"analyse {who} on {name}",
        )

    def explain(
        self, split: Manifest, checkpoint: Manifest, student: Scorer, name: SplitName, who: str = "student"
    ) -> Stage:
        """What a checkpoint says of its worst errors on one split; `student` are its scores and decision."""
        config = self.config.student
        part = explain_stage.ExplainSlice(
            engine=config.engine.for_sampling(),
            prompt=EncodeSlice.of(config),
            split=name,
            rows=self.config.export.error_rows,
            max_new_tokens=self.max_new_tokens,
        )
        inputs = {"split": split, "checkpoint": checkpoint, "scored": student.rows[name]}
        return Stage(
            explain_stage.NAME,
            explain_stage.VERSION,
            part,
            self.bench.student_content(),
            inputs if student.decision is None else {**inputs, "decision": student.decision},
            explain_stage.ExplainRun(lambda: self.bench.engine, self.bench.encoder_of),
            slot=f"explain/{who}",
            label=f"explain the worst errors of {who} on {name}",
        )

    def adapter(self, split: Manifest, checkpoint: Manifest, phase: Phase = STUDENT) -> Stage:
        """Download a remote checkpoint's adapter, and compare it with the server on rows of val."""
        student, source = self.config.student, self.bench.engine.local_model
        return Stage(
            adapter_stage.NAME,
            adapter_stage.VERSION,
            adapter_stage.AdapterSlice(
                engine=student.engine,
                seed=self.config.training_seed,
                lora=student.lora,
                prompt=EncodeSlice.of(student),
                parity_rows=student.parity_rows,
            ),
            {**self.bench.student_content(), "local_model": source.digest if source else "none"},
            {"split": split, "checkpoint": checkpoint},
            adapter_stage.AdapterRun(lambda: self.bench.engine, self.bench.encoder),
            slot=f"{adapter_stage.NAME}/{phase.slot}".rstrip("/"),
            label="download the adapter",
        )

    def hardness(
        self, split: Manifest, answers: Manifest, student: Scorer, name: SplitName, who: str = "student"
    ) -> Stage:
        """How the student does on texts that were hard for the teacher; `answers` are of the reject stage
        for train, and of the sample stage for the other splits."""
        config = self.config
        judging = hardness_stage.JudgingSlice(
            rejection=config.rejection,
            rules=config.rules,
            positive=config.data.positive,
            negative=config.data.negative,
        )
        part = hardness_stage.HardnessSlice(
            split=name, judging=None if name == "train" else judging, seed=config.seed
        )
        inputs = {"split": split, "answers": answers}
        if name in student.rows and student.decision is not None:
            inputs |= {"scored": student.rows[name], "decision": student.decision}
        return Stage(
            hardness_stage.NAME,
            hardness_stage.VERSION,
            part,
            hardness_stage.content(part),
            inputs,
            hardness_stage.run,
            slot=f"hardness/{who}/{name}",
            label=f"hard texts of {name}",
        )

    @property
    def label_only_is_the_same(self) -> bool:
        """Whether the label-only mode asks exactly what the student was trained on, at the same place:
        the prompts agree and the label comes first. Its scores are then taken over."""
        target = self.config.student.target
        own = self.bench.frame(label_only=target == "label_only")
        return self.bench.frame(label_only=True) == own and target != "reason_first"

    def baseline(self, split: Manifest, without: tuple[Part, ...] = ()) -> Stage:
        """The classical baselines on the same rows; `without` are those that failed."""
        part = baseline_stage.BaselineSlice(seed=self.config.seed, without=without)
        return Stage(
            baseline_stage.NAME, baseline_stage.VERSION, part, {}, {"split": split}, baseline_stage.run
        )

    @property
    def max_new_tokens(self) -> int:
        """Longest reasoning, in tokens.

        For reason_first it is part of the decision, so it is generated as on val.
        """
        if self.config.student.target == "reason_first":
            return self.config.evaluation.max_new_tokens
        return self.config.export.max_new_tokens

    def _slice(
        self,
        split: SplitName,
        *,
        label_only: bool,
        max_new_tokens: int,
        measured: bool = False,
        max_examples: int = 0,
        reasoning_rows: int = 0,
        rulebook: bool | None = None,
    ) -> MeasureSlice:
        """What is asked, with what every measurement depends on besides."""
        student = self.config.student
        prompt = EncodeSlice.of(student)
        if rulebook is not None:
            prompt = prompt.model_copy(update={"rulebook": rulebook})
        return MeasureSlice(
            engine=student.engine.for_sampling(),
            prompt=prompt,
            split=split,
            label_only=label_only,
            measured=measured,
            max_examples=max_examples,
            max_new_tokens=max_new_tokens,
            reasoning_rows=reasoning_rows,
            seed=self.config.seed,
        )

    def _scoring(
        self,
        name: str,
        part: MeasureSlice,
        split: Manifest,
        checkpoint: Manifest | None,
        *,
        slot: str,
        label: str,
        scored: Manifest | None = None,
    ) -> Stage:
        inputs = {"split": split, "checkpoint": checkpoint, "scored": scored}
        return Stage(
            name,
            measure_stage.VERSION,
            part,
            self.bench.student_content(part.prompt.rulebook),
            {k: m for k, m in inputs.items() if m is not None},
            MeasureRun(lambda: self.bench.engine, self.bench.encoder_of),
            slot=slot,
            label=label,
        )
