"""The stages that measure: checkpoints and baselines on the splits, and the adapter held to its server."""

from __future__ import annotations

from core.config import Config
from core.evaluation import baseline_stage
from core.evaluation import stage as measure_stage
from core.evaluation.stage import MeasureRun, MeasureSlice
from core.export import adapter as adapter_stage
from core.pipeline.workbench import Workbench
from core.records import SplitName
from core.stages import Stage
from core.store.manifest import Manifest
from core.student.encoding import EncodeSlice


class Measuring:
    """Builds the measuring stages of one run."""

    def __init__(self, config: Config, bench: Workbench) -> None:
        self.config, self.bench = config, bench

    def evaluate(self, split: Manifest, checkpoint: Manifest | None, step: int) -> Stage:
        """Measure a checkpoint on val; without one, the untrained model."""
        return self._measure(
            measure_stage.EVALUATE,
            self._measure_slice(
                split="val",
                label_only=False,
                threshold=None,
                max_examples=self.config.evaluation.max_examples,
                max_new_tokens=self.config.evaluation.max_new_tokens,
                reasoning_rows=0,
            ),
            split,
            checkpoint,
            slot=f"evaluate/{step}",
            label=f"evaluate step {step} on val",
        )

    def export(
        self,
        split: Manifest,
        checkpoint: Manifest | None,
        name: SplitName,
        *,
        label_only: bool,
        threshold: float | None,
        scored: Manifest | None = None,
        who: str = "student",
    ) -> Stage:
        """Measure the chosen checkpoint on one split with everything frozen."""
        mode = "label_only" if label_only else "reasoning"
        export = self.config.export
        generates = not label_only and checkpoint is not None
        return self._measure(
            measure_stage.EXPORT,
            self._measure_slice(
                split=name,
                label_only=label_only,
                threshold=threshold,
                max_examples=0,
                max_new_tokens=self._max_new_tokens(),
                reasoning_rows=export.reasoning_rows if generates else 0,
            ),
            split,
            checkpoint,
            scored=scored,
            slot=f"export/{who}/{name}/{mode}",
            label=f"export {who} on {name}, {mode}",
        )

    def adapter(self, split: Manifest, checkpoint: Manifest) -> Stage:
        """Take a remote checkpoint's adapter home, and hold it against the server on rows of val."""
        student, source = self.config.student, self.bench.local_source
        return Stage(
            adapter_stage.NAME,
            adapter_stage.VERSION,
            adapter_stage.AdapterSlice(
                engine=student.engine,
                seed=self.config.seed,
                lora=student.lora,
                prompt=EncodeSlice.of(student),
                parity_rows=student.parity_rows,
            ),
            {**self.bench.student_content(), "local_model": source.digest if source else "none"},
            {"split": split, "checkpoint": checkpoint},
            adapter_stage.AdapterRun(
                lambda: self.bench.remote_engine, lambda: self.bench.local_source, self.bench.encoder
            ),
            label="take the adapter home",
        )

    @property
    def label_only_is_the_same(self) -> bool:
        """Whether the label-only mode asks exactly what the student was trained on, at the same place:
        the prompts agree and the label comes first. Its scores are then taken over."""
        prompts = self.bench.frame(label_only=True), self.bench.frame(label_only=False)
        return prompts[0] == prompts[1] and self.config.student.target != "reason_first"

    def baseline(self, split: Manifest) -> Stage:
        """The classical baselines on the same rows."""
        part = baseline_stage.BaselineSlice(seed=self.config.seed)
        return Stage(
            baseline_stage.NAME, baseline_stage.VERSION, part, {}, {"split": split}, baseline_stage.run
        )

    def _max_new_tokens(self) -> int:
        """For reason_first the reasoning is part of the decision, so it is generated as on val."""
        if self.config.student.target == "reason_first":
            return self.config.evaluation.max_new_tokens
        return self.config.export.max_new_tokens

    def _measure_slice(
        self,
        *,
        split: SplitName,
        label_only: bool,
        threshold: float | None,
        max_examples: int,
        max_new_tokens: int,
        reasoning_rows: int,
    ) -> MeasureSlice:
        """What is asked, with what every measurement depends on besides."""
        student = self.config.student
        return MeasureSlice(
            engine=student.engine,
            device=student.device,
            threads=student.threads,
            prompt=EncodeSlice.of(student),
            split=split,
            label_only=label_only,
            threshold=threshold,
            max_examples=max_examples,
            max_new_tokens=max_new_tokens,
            reasoning_rows=reasoning_rows,
            seed=self.config.seed,
        )

    def _measure(
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
            self.bench.student_content(),
            {k: m for k, m in inputs.items() if m is not None},
            MeasureRun(lambda: self.bench.engine, self.bench.encoder),
            slot=slot,
            label=label,
        )
