"""The stages of an export: download the adapter from a server, and write the bundle for a deployment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from core import jsonio
from core.config import CONTENT, Config, ConfigSection, EngineChoice, LoraConfig
from core.data.stage import FILE as SPLIT_SUMMARY
from core.data.stage import SplitSummary
from core.engines import Checkpoint, Device, Sampler, score_differences
from core.engines.local import check_fits, open_peft, write_merged
from core.errors import Part, StageError, separable
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis
from core.evaluation.decision import Decided
from core.evaluation.predictions import SCORES, Predictions
from core.export.bundle import (
    ADAPTER,
    CARD,
    DECISION,
    MERGED,
    PARITY,
    PROMPTS,
    RULEBOOK,
    TOKENIZER,
    Base,
    Bundle,
    BundleColumns,
    BundlePrompt,
    Contents,
    Labels,
    open_bundle,
    write_contents,
    write_prompts,
)
from core.export.card import CardData, render_card
from core.export.parity import Parity, compare_ways
from core.jsonio import Stored
from core.records import iter_examples
from core.rejection.funnel import SUMMARY_FILE as TEACHER_SUMMARY
from core.rejection.funnel import TeacherSummary
from core.results import AdapterDownload, AdapterParity
from core.stage import StageIO, stage
from core.student.encode_stage import SUMMARY_FILE as ENCODED
from core.student.encode_stage import EncodeSummary
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import tokenizer_digest, tokenizer_files
from core.student.train_stage import CHECKPOINT_FILE, SavedCheckpoint, checkpoint, lora_spec

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

BUNDLE = "bundle"
"""The folder of the bundle in its object and in a run's folder."""
_WEIGHTS = "adapter_model.safetensors"
_ADAPTER_FILES = ("adapter_config.json", _WEIGHTS)


class AdapterSettings(ConfigSection):
    """The part of the config that decides the download and its check."""

    engine: EngineChoice
    seed: int
    lora: LoraConfig
    prompt: EncodeSettings
    parity_rows: int

    @classmethod
    def of(cls, config: Config) -> AdapterSettings:
        student = config.student
        return cls(
            engine=student.engine,
            seed=config.training_seed,
            lora=student.lora,
            prompt=EncodeSettings.of(student),
            parity_rows=student.parity_rows,
        )


def adapter_content(config: AdapterSettings, context: RunContext) -> dict[str, str]:
    """Digests of what was trained and of the base model that it is checked with."""
    source = context.engine.local_model
    return {**context.student_content(), "local_model": source.digest if source else "none"}


@stage(
    "adapter",
    version=2,
    inputs=("split", "checkpoint"),
    content=adapter_content,
    publishes={
        **{f"{ADAPTER}/{name}": f"{{phase.folder}}/{ADAPTER}/{name}" for name in _ADAPTER_FILES},
        PARITY: f"{{phase.folder}}/{ADAPTER}/{PARITY}",
    },
    shows=f"{{phase.folder}}/{ADAPTER}/{_WEIGHTS}",
    switch="export",
    slot="adapter/{phase.slot}",
    label="download the adapter",
)
def adapter(config: AdapterSettings, io: StageIO) -> AdapterDownload:
    """Write adapter/ in PEFT's layout and parity.json.

    Raises CheckpointGone, StageError, SessionLost, and ModelError for an adapter that does not fit the base
    model.
    """
    engine = io.context.engine
    point = checkpoint(engine, io.input("checkpoint"))
    engine.keep(point)
    adapter = engine.download_adapter(point, io.out / ADAPTER)
    found = _adapter_parity(config, point, io)
    found.write(io.out / PARITY)
    return AdapterDownload(bytes=adapter.bytes, files=dict(adapter.files), parity=found)


def _adapter_parity(config: AdapterSettings, point: Checkpoint, io: StageIO) -> AdapterParity:
    """Compare the downloaded adapter with the server on rows of val. Raises StageError if none is exact."""
    engine, folder = io.context.engine, io.out / ADAPTER
    source = engine.local_model
    if source is None:
        why = "student.engine.local_model names no base model to check it with"
        return AdapterParity(checked=False, why=why)
    trained = check_fits(folder, source, lora_spec(config.lora, config.seed))
    encoder = io.context.encoder()
    texts = [e.text for e in islice(iter_examples(io.input("split") / "val.csv"), config.parity_rows)]
    encoded = encoder.tokenizer.encode_texts(texts)
    prompts = [encoder.prompt_with_room(text, encoder.label_tokens).tokens for text in encoded]
    choices = [choice for forms in encoder.choices().values() for choice in forms]
    with (
        closing(engine.sampler(point.sampler)) as there,
        closing(open_peft(source, folder, Device("cpu"))) as here,
    ):
        apart = score_differences(there.score(prompts, choices), here.score(prompts, choices))
    if not apart:
        raise StageError(
            f"none of {len(prompts)} rows was scored exactly by both; there is nothing to compare"
        )
    row = max(apart, key=apart.__getitem__)
    return AdapterParity(
        checked=True,
        trained_tensors=trained,
        base_digest=source.digest,
        rows=len(apart),
        largest=apart[row],
        row=row,
        left_out=len(prompts) - len(apart),
    )


class BundleSettings(ConfigSection):
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


class BundleSummary(Stored):
    bytes: int
    parity: Parity


def bundle_content(config: BundleSettings, context: RunContext) -> dict[str, str]:
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
    content=bundle_content,
    publishes={f"{BUNDLE}/": f"{{phase.folder}}/{BUNDLE}/"},
    shows=f"{{phase.folder}}/{BUNDLE}/{CARD}",
    switch="export",
    slot="bundle/{phase.slot}",
    label="bundle the {phase.prefix}student",
)
def bundle(config: BundleSettings, io: StageIO) -> BundleSummary:
    """Write the bundle.

    Inputs: `split`; `kept` (the reject stage) and `encoded` (the encode stage), absent if the student learned
    from rewards; `scored` (the student on val), `decision`, `analysis`; `checkpoint`, absent if the untrained
    model was chosen; `home`, the adapter downloaded from a server. Raises ModelError if the bundle cannot be
    opened again, and PartFailed if the merged weights or the parity check fail, without which it can be
    written.
    """
    folder = io.out / BUNDLE
    contents = _write_files(config, io, folder)
    write_contents(folder, contents)
    opened = open_bundle(folder)
    found = Parity(checked=False, why="the check failed; see run_summary.json")
    if Part.PARITY not in config.without:
        with separable(Part.PARITY):
            found = _bundle_parity(config, io, opened)
    found.write(folder / PARITY)
    checkpoint, kept, encoded = io.optional("checkpoint"), io.optional("kept"), io.optional("encoded")
    data = CardData(
        contents=contents,
        dataset=config.dataset,
        step=0 if checkpoint is None else SavedCheckpoint.read(checkpoint / CHECKPOINT_FILE).step,
        analysis=Analysis.read(io.input("analysis") / ANALYSIS),
        decision=Decided.read(io.input("decision") / DECISION),
        split=SplitSummary.read(io.input("split") / SPLIT_SUMMARY),
        teacher=None if kept is None else TeacherSummary.read(kept / TEACHER_SUMMARY),
        parity=found,
        encoded=None if encoded is None else EncodeSummary.read(encoded / ENCODED),
    )
    (folder / CARD).write_text(render_card(data), encoding="utf-8")
    write_contents(folder, contents)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return BundleSummary(bytes=size, parity=found)


def _write_files(config: BundleSettings, io: StageIO, folder: Path) -> Contents:
    """Write everything but parity, card and bundle.json; returns the content of the latter."""
    context = io.context
    prompts, rulebook, encoder = context.prompts, context.rulebook, context.encoder(config.label_only)
    source, tokenizer, adapter = context.engine.local_model, folder / TOKENIZER, None
    tokenizer.mkdir(parents=True)
    for path in tokenizer_files(context.tokenizer_folder):
        shutil.copy(path, tokenizer / path.name)
    if (learned := io.optional("home") or io.optional("checkpoint")) is not None:
        adapter = folder / ADAPTER
        shutil.copytree(learned / ADAPTER, adapter, ignore=shutil.ignore_patterns("download.json"))
    write_prompts(folder / PROMPTS, prompts)
    (folder / RULEBOOK).write_text(rulebook.text, encoding="utf-8")
    shutil.copy(io.input("decision") / DECISION, folder / DECISION)
    if config.merged is not None and source is not None and Part.MERGED not in config.without:
        merged, end = folder / MERGED, encoder.chat.end_of_turn
        with separable(Part.MERGED):
            write_merged(source, adapter, tokenizer, merged, config.merged, end_of_turn=end)
    engine = io.context.engine
    base = Base(config.engine.kind, config.model, io.context.base_digest, engine.identity.server)
    if config.engine.capabilities.remote and (trained := io.optional("checkpoint")) is not None:
        base = replace(base, sampler_path=checkpoint(engine, trained).sampler.location)
    if config.engine.capabilities.remote and source is not None:
        base = replace(base, local_spec=source.spec, local_digest=source.digest)
    return Contents(
        base=base,
        adapter_digest=None if adapter is None else jsonio.file_digest(adapter / _WEIGHTS),
        prompt=BundlePrompt(**config.prompt.model_dump(), label_only=config.label_only),
        prompts_digest=prompts.student_digest,
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=encoder.tokenizer.template_digest,
        encoder_digest=encoder.digest,
        rulebook_digest=rulebook.digest,
        rule_ids=rulebook.ids,
        labels=Labels(config.positive, config.negative),
        columns=BundleColumns(config.text_column, config.id_column),
        max_new_tokens=config.max_new_tokens,
        files={},
    )


def _bundle_parity(config: BundleSettings, io: StageIO, opened: Bundle) -> Parity:
    """Compare the trained model with the bundle as it is opened again, and with the merged weights."""
    engine, device = io.context.engine, config.engine.device_here
    if engine.local_model is None:
        return Parity(checked=False, why="student.engine.local_model names no base model to load it with")

    def trained() -> Sampler:
        """The checkpoint as training left it: not merged into the base's weights."""
        found = io.optional("checkpoint")
        point = None if found is None else checkpoint(engine, found).sampler
        return engine.sampler(point, merge=False)

    def merged() -> Sampler:
        """The merged weights as a deployment opens them; if that fails, they are what is left out."""
        with separable(Part.MERGED):
            return opened.sampler("merged", device=device)

    ways: dict[str, Callable[[], Sampler]] = {
        "trained": trained,
        "reloaded": lambda: opened.sampler("adapter", device=device),
        **({"merged": merged} if opened.has_merged else {}),
    }
    return compare_ways(opened.encoder, opened.decision, _prompts(config, io, opened.encoder), ways)


def _prompts(config: BundleSettings, io: StageIO, encoder: Encoder) -> list[tuple[int, ...]]:
    """Rows of val up to the label's place: for reason_first with the student's own reasoning."""
    scored = Predictions.read(io.input("scored") / SCORES)
    generated = dict(zip(scored.ids, scored.generated, strict=True))
    reasons, reserve = encoder.target == "reason_first", encoder.label_tokens
    out: list[tuple[int, ...]] = []
    for example in islice(iter_examples(io.input("split") / "val.csv"), config.parity_rows):
        reasoning = generated[example.id].reasoning if reasons and example.id in generated else None
        if reasons and reasoning is None:
            continue
        after = encoder.reason_prefix(reasoning) if reasoning is not None else ()
        text = encoder.tokenizer.encode_texts([example.text])[0]
        out.append((*encoder.prompt_with_room(text, reserve + len(after)).tokens, *after))
    return out
