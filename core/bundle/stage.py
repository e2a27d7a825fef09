"""The bundle stage: one folder with all that a deployment of the chosen student needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from core import jsonio
from core.bundle import card, parity
from core.bundle import contents as names
from core.bundle.contents import Base, Contents
from core.bundle.merging import write_merged
from core.bundle.opening import Bundle, Device, open_bundle, write_prompts
from core.config.base import CONTENT, Section
from core.data.writing import iter_examples
from core.engines.local import LocalEngine
from core.evaluation.analyse_stage import ANALYSIS
from core.evaluation.stage import SCORES, read_scores
from core.prompts import Prompts
from core.rulebook import Rulebook
from core.stageio import StageIO
from core.student.encoding import Encoder, EncodeSlice
from core.student.engine import Engine, Sampler
from core.student.segment import checkpoint
from core.student.tokenizer import tokenizer_digest, tokenizer_files

if TYPE_CHECKING:
    from core.engines.local.weights import ModelSource

NAME = "bundle"
VERSION = 2
FOLDER = "bundle"
_WEIGHTS = "adapter_model.safetensors"


class BundleSlice(Section):
    """What decides the bundle's files, besides the checkpoint and what was measured of it."""

    engine: str
    model: Annotated[str, CONTENT]
    local_model: Annotated[str | None, CONTENT]
    device: str
    threads: int | None
    prompt: EncodeSlice
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


@dataclass(frozen=True, slots=True)
class Tools:
    """What the stage needs of a run, opened when it is needed."""

    engine: Callable[[], Engine]
    encoder: Callable[[bool], Encoder]
    prompts: Callable[[], Prompts]
    rulebook: Callable[[], Rulebook]
    tokenizer: Callable[[], Path]
    local: Callable[[], ModelSource | None]
    """The base model on this machine; None where a remote engine's config names none."""
    base: Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class BundleRun:
    """The stage's function.

    Inputs: `split`; `kept` (the reject stage), absent where the student learnt from rewards; `scored` (the
    student on val), `decision`, `analysis`; `checkpoint`, absent where the untrained model was chosen;
    `home`, the adapter of one on a server.
    """

    tools: Tools

    def __call__(self, config: BundleSlice, io: StageIO) -> dict[str, Any]:
        """Write the bundle. Raises ModelError where what was written cannot be opened again."""
        folder = io.out / FOLDER
        contents = self._files(config, io, folder)
        _write(folder, contents)
        opened = open_bundle(folder)
        found = self._parity(config, io, opened)
        jsonio.write_json(folder / names.PARITY, found)
        (folder / names.CARD).write_text(card.render(_facts(config, io, contents, found)), encoding="utf-8")
        _write(folder, contents)
        return {"bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()), "parity": found}

    def _files(self, config: BundleSlice, io: StageIO, folder: Path) -> Contents:
        """Everything but parity, card and bundle.json itself."""
        tools, adapter = self.tools, _adapter(io)
        prompts, rulebook, encoder = tools.prompts(), tools.rulebook(), tools.encoder(config.label_only)
        home = folder / names.TOKENIZER
        home.mkdir(parents=True)
        for path in tokenizer_files(tools.tokenizer()):
            shutil.copy(path, home / path.name)
        if adapter is not None:
            shutil.copytree(adapter, folder / names.ADAPTER, ignore=shutil.ignore_patterns("download.json"))
        write_prompts(folder / names.PROMPTS, prompts)
        (folder / names.RULEBOOK).write_text(rulebook.text, encoding="utf-8")
        shutil.copy(io.inputs["decision"] / names.DECISION, folder / names.DECISION)
        source = tools.local()
        if config.merged is not None and source is not None:
            copied = None if adapter is None else folder / names.ADAPTER
            end = encoder.frame.end_of_turn
            write_merged(source, copied, home, folder / names.MERGED, config.merged, end_of_turn=end)
        return Contents(
            base=self._base(config, io, source),
            adapter_digest=None if adapter is None else jsonio.file_digest(adapter / _WEIGHTS),
            prompt={**config.prompt.model_dump(), "label_only": config.label_only},
            prompts_digest=prompts.student_digest,
            tokenizer_digest=tokenizer_digest(home),
            template_digest=encoder.tokenizer.template_digest,
            encoder_digest=encoder.digest,
            rulebook_digest=rulebook.digest,
            rule_ids=rulebook.ids,
            labels={"positive": config.positive, "negative": config.negative},
            columns={"text": config.text_column, "id": config.id_column},
            max_new_tokens=config.max_new_tokens,
            files={},
        )

    def _base(self, config: BundleSlice, io: StageIO, source: ModelSource | None) -> Base:
        base = self.tools.base()
        of = Base(config.engine, config.model, base["base_model"], base.get("server"))
        if config.engine == "local":
            return of
        weights = None
        if "checkpoint" in io.inputs:
            weights = checkpoint(self.tools.engine(), io.inputs["checkpoint"]).sampler.location
        local = None if source is None else source.digest
        return replace(of, sampler_path=weights, local_spec=config.local_model, local_digest=local)

    def _parity(self, config: BundleSlice, io: StageIO, opened: Bundle) -> dict[str, Any]:
        """The trained model against the bundle as it is opened again, and against the merged weights."""
        if self.tools.local() is None:
            return {"checked": False, "why": "student.local_model names no base model to load it with"}
        device = Device(config.device, config.threads)
        ways: dict[str, Callable[[], Sampler]] = {"trained": lambda: self._trained(io)}
        ways["reloaded"] = lambda: opened.sampler("adapter", device=device)
        if opened.has_merged:
            ways["merged"] = lambda: opened.sampler("merged", device=device)
        return parity.compare(opened.encoder, opened.decision, _prompts(config, io, opened.encoder), ways)

    def _trained(self, io: StageIO) -> Sampler:
        """The checkpoint as training left it: of a local one, the adapter beside the base's weights."""
        engine = self.tools.engine()
        if "checkpoint" not in io.inputs:
            return engine.sampler(None)
        ref = checkpoint(engine, io.inputs["checkpoint"]).sampler
        return engine.unmerged_sampler(ref) if isinstance(engine, LocalEngine) else engine.sampler(ref)


def _adapter(io: StageIO) -> Path | None:
    """The adapter's folder; None where the untrained model was chosen."""
    if "home" in io.inputs:
        return io.inputs["home"] / names.ADAPTER
    return io.inputs["checkpoint"] / names.ADAPTER if "checkpoint" in io.inputs else None


def _prompts(config: BundleSlice, io: StageIO, encoder: Encoder) -> list[tuple[int, ...]]:
    """Rows of val up to where the label is said: for reason_first with the student's own reasoning."""
    rows = {row.example_id: row for row in read_scores(io.inputs["scored"] / SCORES)}
    reasons, reserve = encoder.target == "reason_first", encoder.label_tokens
    out: list[tuple[int, ...]] = []
    for example in islice(iter_examples(io.inputs["split"] / "val.csv"), config.parity_rows):
        said = rows[example.id].reasoning if reasons and example.id in rows else None
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
    jsonio.write_json(folder / names.FILE, replace(contents, files=files).to_json())


def _facts(config: BundleSlice, io: StageIO, contents: Contents, found: Mapping[str, Any]) -> card.Facts:
    point = io.inputs.get("checkpoint")
    return card.Facts(
        contents=contents,
        dataset=config.dataset,
        step=0 if point is None else jsonio.read_json(point / "checkpoint.json")["step"],
        analysis=jsonio.read_json(io.inputs["analysis"] / ANALYSIS),
        decision=jsonio.read_json(io.inputs["decision"] / names.DECISION),
        split=jsonio.read_json(io.inputs["split"] / "split_summary.json"),
        teacher=jsonio.read_json(io.inputs["kept"] / "teacher_summary.json") if "kept" in io.inputs else None,
        parity=found,
    )
