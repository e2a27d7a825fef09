"""The bundle stage: one folder with all that a deployment of the chosen student needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from core import jsonio
from core.bundle import card, parity
from core.bundle import contents as names
from core.bundle.contents import Base, BundlePrompt, Columns, Contents, Labels
from core.bundle.merging import write_merged
from core.bundle.opening import Bundle, open_bundle, write_prompts
from core.bundle.parity import Parity
from core.config import Config
from core.config.base import CONTENT, Section
from core.config.engine import EngineChoice
from core.data.summary import FILE as SPLIT_SUMMARY
from core.data.summary import SplitSummary
from core.data.writing import iter_examples
from core.engines.base import Device
from core.engines.sampling import Sampler
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis
from core.evaluation.decision import Decided
from core.evaluation.predictions import SCORES, Predictions
from core.optional import Part, separable, unless_left_out
from core.rejection.files import SUMMARY_FILE as TEACHER_SUMMARY
from core.rejection.files import TeacherSummary
from core.stage import StageIO, stage
from core.student.encoding import Encoder, EncodeSettings
from core.student.segment import checkpoint, read_checkpoint
from core.student.stage import SUMMARY_FILE as ENCODED
from core.student.stage import EncodeSummary
from core.student.tokenizer import tokenizer_digest, tokenizer_files

if TYPE_CHECKING:
    from core.base_model import ModelSource
    from core.pipeline.context import RunContext

FOLDER = "bundle"
_WEIGHTS = "adapter_model.safetensors"
_UNCHECKED = Parity(checked=False, why="the check failed; run_summary.json says why")


class BundleSettings(Section):
    """What decides the bundle's files, besides the checkpoint and what was measured of it."""

    engine: EngineChoice
    model: Annotated[str, CONTENT]
    prompt: EncodeSettings
    label_only: bool
    """Whether the label-only prompt is the one that is published."""
    dataset: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    text_column: str
    id_column: str | None
    max_new_tokens: int
    merged: Literal["float32", "bfloat16", "float16"] | None
    parity_rows: int
    without: tuple[Part, ...] = ()
    """Parts that failed and are left out: merged weights, the parity check."""

    @classmethod
    def of(cls, config: Config, *, label_only: bool) -> BundleSettings:
        """The part of the config that decides the bundle."""
        student, data = config.student, config.data
        return cls(
            engine=student.engine.for_sampling(),
            model=student.model,
            prompt=EncodeSettings.of(student),
            label_only=label_only,
            dataset=data.name,
            positive=data.positive,
            negative=data.negative,
            text_column=data.text_column,
            id_column=data.id_column,
            max_new_tokens=config.longest_reasoning,
            merged=config.export.merged,
            parity_rows=student.parity_rows,
        )


def content(config: BundleSettings, context: RunContext) -> dict[str, str]:
    """Digests of model, prompts, rulebook and tokenizer."""
    source = context.engine.local_model
    return {
        **context.student_content(),
        "rulebook": context.rulebook.digest,
        "prompts": context.prompts.student_digest,
        "tokenizer": tokenizer_digest(context.tokenizer_folder),
        "local_model": source.digest if source else "none",
    }


@stage(
    "bundle",
    version=2,
    inputs=("split", "kept?", "encoded?", "scored", "decision", "analysis", "checkpoint?", "home?"),
    content=content,
    publishes={f"{FOLDER}/": f"{{phase.folder}}/{FOLDER}/"},
    shows=f"{{phase.folder}}/{FOLDER}/{names.CARD}",
    switch="export",
    slot="bundle/{phase.slot}",
    label="bundle the {phase.said}student",
)
def bundle(config: BundleSettings, io: StageIO) -> dict[str, Any]:
    """Write the bundle.

    Inputs: `split`; `kept` (the reject stage) and `encoded` (the encode stage), absent where the student
    learned from rewards; `scored` (the student on val), `decision`, `analysis`; `checkpoint`, absent where
    the untrained model was chosen; `home`, the adapter downloaded from a server. Raises ModelError where
    what was written cannot be opened again, and PartFailed where the merged weights or the parity check
    fail, without which it can be written.
    """
    folder = io.out / FOLDER
    contents = _files(config, io, folder)
    _write(folder, contents)
    opened = open_bundle(folder)
    found = unless_left_out(
        Part.PARITY, config.without, lambda: _parity(config, io, opened), lambda: _UNCHECKED
    )
    found.write(folder / names.PARITY)
    shown = card.render(_card_data(config, io, contents, found))
    (folder / names.CARD).write_text(shown, encoding="utf-8")
    _write(folder, contents)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {"bytes": size, "parity": found.to_json()}


def _files(config: BundleSettings, io: StageIO, folder: Path) -> Contents:
    """Everything but parity, card and bundle.json itself."""
    context, adapter = io.context, _adapter(io)
    prompts, rulebook, encoder = context.prompts, context.rulebook, context.encoder(config.label_only)
    home = folder / names.TOKENIZER
    home.mkdir(parents=True)
    for path in tokenizer_files(context.tokenizer_folder):
        shutil.copy(path, home / path.name)
    if adapter is not None:
        shutil.copytree(adapter, folder / names.ADAPTER, ignore=shutil.ignore_patterns("download.json"))
    write_prompts(folder / names.PROMPTS, prompts)
    (folder / names.RULEBOOK).write_text(rulebook.text, encoding="utf-8")
    shutil.copy(io.inputs["decision"] / names.DECISION, folder / names.DECISION)
    source = context.engine.local_model
    if config.merged is not None and source is not None and Part.MERGED not in config.without:
        copied = None if adapter is None else folder / names.ADAPTER
        end = encoder.frame.end_of_turn
        with separable(Part.MERGED):
            write_merged(source, copied, home, folder / names.MERGED, config.merged, end_of_turn=end)
    return Contents(
        base=_base(config, io, source),
        adapter_digest=None if adapter is None else jsonio.file_digest(adapter / _WEIGHTS),
        prompt=BundlePrompt(**config.prompt.model_dump(), label_only=config.label_only),
        prompts_digest=prompts.student_digest,
        tokenizer_digest=tokenizer_digest(home),
        template_digest=encoder.tokenizer.template_digest,
        encoder_digest=encoder.digest,
        rulebook_digest=rulebook.digest,
        rule_ids=rulebook.ids,
        labels=Labels(config.positive, config.negative),
        columns=Columns(config.text_column, config.id_column),
        max_new_tokens=config.max_new_tokens,
        files={},
    )


def _base(config: BundleSettings, io: StageIO, source: ModelSource | None) -> Base:
    base = io.context.base
    of = Base(config.engine.kind, config.model, base["base_model"], base.get("server"))
    if not config.engine.capabilities.remote:
        return of
    weights = None
    if "checkpoint" in io.inputs:
        weights = checkpoint(io.context.engine, io.inputs["checkpoint"]).sampler.location
    of = replace(of, sampler_path=weights)
    return of if source is None else replace(of, local_spec=source.spec, local_digest=source.digest)


def _parity(config: BundleSettings, io: StageIO, opened: Bundle) -> Parity:
    """The trained model against the bundle as it is opened again, and against the merged weights."""
    if io.context.engine.local_model is None:
        return Parity(checked=False, why="student.engine.local_model names no base model to load it with")
    device = config.engine.device_here
    ways: dict[str, Callable[[], Sampler]] = {"trained": lambda: _trained(io)}
    ways["reloaded"] = lambda: opened.sampler("adapter", device=device)
    if opened.has_merged:
        ways["merged"] = lambda: _merged(opened, device)
    return parity.compare(opened.encoder, opened.decision, _prompts(config, io, opened.encoder), ways)


def _trained(io: StageIO) -> Sampler:
    """The checkpoint as training left it: not merged into the base's weights."""
    engine = io.context.engine
    if "checkpoint" not in io.inputs:
        return engine.sampler(None)
    ref = checkpoint(engine, io.inputs["checkpoint"]).sampler
    return engine.sampler(ref, merge=False)


def _merged(opened: Bundle, device: Device) -> Sampler:
    """The merged weights as a deployment opens them; where that fails, they are what is left out."""
    with separable(Part.MERGED):
        return opened.sampler("merged", device=device)


def _adapter(io: StageIO) -> Path | None:
    """The adapter's folder; None where the untrained model was chosen."""
    if "home" in io.inputs:
        return io.inputs["home"] / names.ADAPTER
    return io.inputs["checkpoint"] / names.ADAPTER if "checkpoint" in io.inputs else None


def _prompts(config: BundleSettings, io: StageIO, encoder: Encoder) -> list[tuple[int, ...]]:
    """Rows of val up to where the label is said: for reason_first with the student's own reasoning."""
    scored = Predictions.read(io.inputs["scored"] / SCORES)
    generated = dict(zip(scored.ids, scored.generated, strict=True))
    reasons, reserve = encoder.target == "reason_first", encoder.label_tokens
    out: list[tuple[int, ...]] = []
    for example in islice(iter_examples(io.inputs["split"] / "val.csv"), config.parity_rows):
        said = generated[example.id].reasoning if reasons and example.id in generated else None
        if reasons and said is None:
            continue
        after = encoder.reason_prefix(said) if said is not None else ()
        text = encoder.tokenizer.encode_texts([example.text])[0]
        out.append((*encoder.prompt_with_room(text, reserve + len(after)).tokens, *after))
    return out


def _write(folder: Path, contents: Contents) -> None:
    """bundle.json with the digests of all files that are there."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != names.FILE)
    files = {p.relative_to(folder).as_posix(): jsonio.file_digest(p) for p in paths}
    contents.model_copy(update={"files": files}).write(folder / names.FILE)


def _card_data(config: BundleSettings, io: StageIO, contents: Contents, found: Parity) -> card.CardData:
    at = io.inputs
    return card.CardData(
        contents=contents,
        dataset=config.dataset,
        step=read_checkpoint(at["checkpoint"]).step if "checkpoint" in at else 0,
        analysis=Analysis.read(at["analysis"] / ANALYSIS),
        decision=Decided.read(at["decision"] / names.DECISION),
        split=SplitSummary.read(at["split"] / SPLIT_SUMMARY),
        teacher=TeacherSummary.read(at["kept"] / TEACHER_SUMMARY) if "kept" in at else None,
        parity=found,
        encoded=EncodeSummary.read(at["encoded"] / ENCODED) if "encoded" in at else None,
    )
