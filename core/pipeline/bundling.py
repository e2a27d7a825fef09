"""The bundle of a run's chosen student, as a stage."""

from __future__ import annotations

from core.bundle import stage as bundle_stage
from core.optional import Part
from core.pipeline.measuring import Measuring
from core.pipeline.phases import STUDENT, Phase
from core.pipeline.scorers import Scorer
from core.pipeline.workbench import Workbench
from core.stages import Stage
from core.store.manifest import Manifest
from core.student.encoding import EncodeSlice
from core.student.tokenizer import tokenizer_digest


def bundle(
    of: Measuring,
    split: Manifest,
    kept: Manifest | None,
    checkpoint: Manifest | None,
    student: Scorer,
    analysis: Manifest,
    home: Manifest | None = None,
    phase: Phase = STUDENT,
    *,
    encoded: Manifest | None = None,
    without: tuple[Part, ...] = (),
) -> Stage:
    """All that a deployment needs. `student` is the mode that is published, `home` its downloaded adapter.

    `kept` and `encoded` are what it learned from, None where these were rewards; `without` are optional
    parts that failed.
    """
    assert student.decision is not None, "what is published has a decision"
    inputs = {
        "split": split,
        "kept": kept,
        "encoded": encoded,
        "scored": student.rows["val"],
        "decision": student.decision,
        "analysis": analysis,
        "checkpoint": checkpoint,
        "home": home,
    }
    return Stage(
        bundle_stage.NAME,
        bundle_stage.VERSION,
        _slice(of, without, label_only=student.kind == "label_only"),
        _content(of.bench),
        {name: m for name, m in inputs.items() if m is not None},
        bundle_stage.BundleRun(_tools(of.bench)),
        slot=f"{bundle_stage.NAME}/{phase.slot}".rstrip("/"),
        label=f"bundle the {phase.said}student",
    )


def _slice(of: Measuring, without: tuple[Part, ...], *, label_only: bool) -> bundle_stage.BundleSlice:
    student, data = of.config.student, of.config.data
    return bundle_stage.BundleSlice(
        engine=student.engine.for_sampling(),
        model=student.model,
        prompt=EncodeSlice.of(student),
        label_only=label_only,
        dataset=data.name,
        positive=data.positive,
        negative=data.negative,
        text_column=data.text_column,
        id_column=data.id_column,
        max_new_tokens=of.max_new_tokens,
        merged=of.config.export.merged,
        parity_rows=student.parity_rows,
        without=without,
    )


def _content(bench: Workbench) -> dict[str, str]:
    source = bench.engine.local_model
    return {
        **bench.student_content(),
        "rulebook": bench.rulebook.digest,
        "prompts": bench.prompts.student_digest,
        "tokenizer": tokenizer_digest(bench.tokenizer_folder),
        "local_model": source.digest if source else "none",
    }


def _tools(bench: Workbench) -> bundle_stage.Tools:
    return bundle_stage.Tools(
        engine=lambda: bench.engine,
        encoder=bench.encoder,
        prompts=lambda: bench.prompts,
        rulebook=lambda: bench.rulebook,
        tokenizer=lambda: bench.tokenizer_folder,
        base=lambda: bench.base,
    )
