"""A bundle's files and bundle.json, and opening it: every digest is checked before anything is answered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator

from core import jsonio
from core.base_model import ModelSource, resolve_model
from core.config import ENGINES
from core.engines import Device, Sampler, SamplerRef
from core.engines.local import open_peft
from core.errors import ModelError
from core.evaluation.decision import Decision
from core.evaluation.embeddings import encoder_digest, find_encoder
from core.evaluation.regression import FILES as MODEL_FILES
from core.evaluation.regression import Regression
from core.export import Weights
from core.jsonio import InvalidFile, Record
from core.prompts import TEXT_SLOT, Prompts, TargetWording
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer, tokenizer_digest

FILE = "bundle.json"
FORMAT: Literal[1] = 1
BASELINE_FORMAT: Literal[2] = 2
MODEL = "model"
"""The folder of a baseline's fitted regression."""
ADAPTER = "adapter"
MERGED = "merged"
TOKENIZER = "tokenizer"
PROMPTS = "prompts.yaml"
RULEBOOK = "rulebook.txt"
DECISION = "decision.json"
PARITY = "parity.json"
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Base:
    """The base model: `spec` as the config names it, `digest` over its files or a server's name for it."""

    engine: str
    spec: str
    digest: str
    server: str | None = None
    sampler_path: str | None = None
    """tinker: the chosen weights on the server."""
    local_spec: str | None = None
    """tinker: the same base model as the local engine reads it, with `local_digest`."""
    local_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """Names of the classes in the data; the first is the one that is written."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BundleColumns:
    """Names of the data's columns; `id` is None if there is none."""

    text: str
    id: str | None = None


class BundlePrompt(EncodeSettings):
    """How the student is asked."""

    label_only: bool
    """Whether the label-only prompt is used instead of the one it was trained on."""


def _inside(name: str) -> str:
    """Return the path of a file of the bundle. Raises ValueError if it leads out of the bundle's folder."""
    if "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError("is not a path inside the bundle")
    return name


class _Format(Record):
    format: object = None


class EncoderReference(Record):
    """The encoder of a baseline: `spec` as the config names it, `digest` over what decides its vectors."""

    spec: str
    digest: str


class BaselineContents(Record):
    """The content of bundle.json of a baseline, which has no prompt, adapter or tokenizer."""

    scorer: str
    """Its name in the run's results, such as tfidf_chars."""
    title: str
    encoder: EncoderReference | None
    labels: Labels
    columns: BundleColumns
    files: dict[Annotated[str, AfterValidator(_inside)], str]
    """sha256 of each other file of the bundle, by its path inside."""
    format: Literal[2] = BASELINE_FORMAT


class Contents(Record):
    """The content of a student's bundle.json; digests are sha256 in hex."""

    base: Base
    adapter_digest: str | None
    """Over the adapter's bytes; None if the untrained model was chosen."""
    prompt: BundlePrompt
    prompts_digest: str
    tokenizer_digest: str
    template_digest: str
    rulebook_digest: str
    rule_ids: tuple[str, ...]
    labels: Labels
    columns: BundleColumns
    max_new_tokens: int
    """Longest reasoning, in tokens."""
    files: dict[Annotated[str, AfterValidator(_inside)], str]
    """sha256 of each other file of the bundle, by its path inside."""
    encoder_digest: str | None = None
    """Encoder.digest: the tokens that the student is asked with. None in bundles of version 0.1."""
    format: Literal[1] = FORMAT


@dataclass(frozen=True, slots=True)
class BaselineBundle:
    """An intact bundle of a baseline, with its model and decision."""

    folder: Path
    contents: BaselineContents
    model: Regression
    decision: Decision

    def encoder(self, spec: str | None = None) -> ModelSource | None:
        """The encoder on this machine, by default where it was; None if the baseline needs none.

        Raises ModelError if it is missing or another one.
        """
        of = self.contents.encoder
        if of is None:
            return None
        source = find_encoder(spec or of.spec)
        if (digest := encoder_digest(source)) != of.digest:
            raise ModelError(
                f"the encoder in {source.folder} is not the one that the bundle was fitted with: "
                f"its digest is {digest[:12]}, the bundle's is {of.digest[:12]}; use those files"
            )
        return source


@dataclass(frozen=True, slots=True)
class Bundle:
    """An intact bundle with its prompt and decision; the model itself is opened by `sampler`."""

    folder: Path
    contents: Contents
    encoder: Encoder
    decision: Decision

    @property
    def has_merged(self) -> bool:
        """Whether it contains merged weights."""
        return any(name.startswith(f"{MERGED}/") for name in self.contents.files)

    def sampler(self, weights: Weights, base: str | None = None, device: Device | None = None) -> Sampler:
        """Open the adapter over its base, the merged weights, or the server's own weights.

        `base` is the place of the base model, by default where it was. Raises ModelError if it is another
        one.
        """
        device = device or Device()
        if weights == "server":
            of = self.contents.base
            if of.sampler_path is None:
                raise ModelError(f"no server has the weights of the bundle in {self.folder}; see --weights")
            engine = ENGINES.get(of.engine).for_server(of.server).open(of.spec)
            engine.require_credentials()
            return engine.sampler(SamplerRef(of.sampler_path), owns_engine=True)
        if weights == "merged":
            if not self.has_merged:
                raise ModelError(
                    f"the bundle in {self.folder} contains no merged weights: set export.merged, or use "
                    "--weights adapter"
                )
            _check_files(self.folder, self.contents, merged=True)
            return open_peft(resolve_model(str(self.folder / MERGED)), None, device)
        adapter = None if self.contents.adapter_digest is None else self.folder / ADAPTER
        return open_peft(self.base(base), adapter, device)

    def base(self, spec: str | None) -> ModelSource:
        """The base model on this machine. Raises ModelError if the adapter was trained on another one."""
        of = self.contents.base
        own, digest = (of.spec, of.digest) if of.server is None else (of.local_spec, of.local_digest)
        if own is None and spec is None:
            raise ModelError(
                f"the bundle in {self.folder} was trained on a server as {of.spec}, and its config named no "
                "base model here: name its folder with --base-model, or use the server with --weights server"
            )
        try:
            source = resolve_model(spec or own or "")
        except ModelError as e:
            other = "; or use the bundle's own weights with --weights merged" if self.has_merged else ""
            raise ModelError(
                f"{e}: the bundle in {self.folder} needs it (set its place with --base-model){other}"
            ) from e
        if digest is not None and source.digest != digest:
            raise ModelError(
                f"the base model {source.spec} in {source.folder} is not the one that the bundle was trained "
                f"on: its digest is {source.digest[:12]}, the bundle's is {digest[:12]}; use those files"
            )
        return source


def open_any(folder: Path) -> Bundle | BaselineBundle:
    """Read and check the folder of a student's or a baseline's bundle. Raises ModelError as `open_bundle`."""
    contents = read_contents(folder)
    if isinstance(contents, Contents):
        return open_bundle(folder)
    _require(folder, contents, DECISION, *(f"{MODEL}/{name}" for name in MODEL_FILES))
    _check_files(folder, contents, merged=False)
    return BaselineBundle(folder, contents, Regression.read(folder / MODEL), Decision.read(folder / DECISION))


def open_bundle(folder: Path) -> Bundle:
    """Read and check the folder of a student's bundle; merged weights are checked when they are opened.

    Raises ModelError naming what does not match.
    """
    contents = read_contents(folder)
    if isinstance(contents, BaselineContents):
        raise ModelError(f"{folder} is the bundle of a baseline ({contents.title}), and not of a student")
    _require(folder, contents, PROMPTS, RULEBOOK, DECISION)
    _check_files(folder, contents, merged=False)
    prompts = read_prompts(folder / PROMPTS)
    if prompts.student_digest != contents.prompts_digest:
        raise _differs(folder, "prompt", "another version of understudy renders it otherwise")
    home = folder / TOKENIZER
    part = EncodeSettings(**contents.prompt.model_dump(exclude={"label_only"}))
    tokenizer = ChatTokenizer.load(home, part.chat_template_args, part.template_date)
    if tokenizer_digest(home) != contents.tokenizer_digest:
        raise _differs(folder, "tokenizer", "files were added or removed")
    if tokenizer.template_digest != contents.template_digest:
        raise _differs(folder, "chat template", "this version of transformers reads it otherwise")
    shown = (folder / RULEBOOK).read_text(encoding="utf-8") if part.rulebook else None
    encoder = Encoder(tokenizer, prompts, shown, part, label_only=contents.prompt.label_only)
    if contents.encoder_digest is None:
        check_first_version(folder, encoder)
    elif encoder.digest != contents.encoder_digest:
        raise _differs(folder, "tokens of the prompt", "other versions of its parts")
    return Bundle(folder, contents, encoder, Decision.read(folder / DECISION))


def read_contents(folder: Path) -> Contents | BaselineContents:
    """Read bundle.json. Raises ModelError if it does not exist, is damaged, or has another format."""
    try:
        data = (folder / FILE).read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a bundle: it has no {FILE}") from None
    return parse_contents(data, str(folder / FILE))


def parse_contents(data: bytes, place: str) -> Contents | BaselineContents:
    """Return the contents in the bytes of bundle.json.

    Raises ModelError, which names `place`, if they are damaged or of another format.
    """
    try:
        value = json.loads(data)
        version = _Format.from_json(value, place).format
        if version == BASELINE_FORMAT:
            return BaselineContents.from_json(value, place)
        if version in (None, FORMAT):  # without one it is not a bundle.json, and damaged
            return Contents.from_json(value, place)
    except (ValueError, InvalidFile) as e:
        raise _damaged(place, e) from e
    raise ModelError(
        f"{place} is a bundle of format {version!r}, and this version reads {FORMAT} and {BASELINE_FORMAT}: "
        "export it again, or use the version of understudy that wrote it"
    )


def write_contents(folder: Path, contents: Contents | BaselineContents) -> None:
    """Write bundle.json with the digests of all other files."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != FILE)
    files = {p.relative_to(folder).as_posix(): jsonio.file_digest(p) for p in paths}
    contents.model_copy(update={"files": files}).write(folder / FILE)


def _require(folder: Path, contents: Contents | BaselineContents, *names: str) -> None:
    """Raise ModelError unless bundle.json lists these files."""
    if unlisted := set(names) - contents.files.keys():
        raise _damaged(str(folder / FILE), f"files: {min(unlisted)} is missing")


class _PromptsFile(Record):
    """The content of prompts.yaml besides the templates."""

    task_instruction: str
    target: TargetWording


def write_prompts(path: Path, prompts: Prompts) -> None:
    """Write the student's templates, and the wording of its answer."""
    target, templates = dataclasses.asdict(prompts.target), _of_the_student(prompts.templates)
    value = {"task_instruction": prompts.task_instruction, **templates, "target": target}
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if yaml.safe_load(text) != value:  # it has a line end of Unicode, which YAML reads as another one
        text = yaml.safe_dump(value, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def read_prompts(path: Path) -> Prompts:
    """Read the output of `write_prompts`. Raises InvalidFile if it is damaged."""
    value: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = _PromptsFile.from_json(value, str(path))
    return Prompts(str(path), found.task_instruction, _of_the_student(value), found.target)


def _of_the_student(templates: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in templates.items() if name.startswith("student")}


def check_first_version(folder: Path, encoder: Encoder) -> None:
    """Raise ModelError if version 0.1 would have asked other tokens.

    It tokenized a prompt in three parts, and gave templates the present date.
    """
    tokenizer = encoder.tokenizer
    frame = tokenizer.render(encoder.prompt_messages(TEXT_SLOT), generate=True)
    parts = frame.replace(TEXT_SLOT, f"{TEXT_SLOT}x{TEXT_SLOT}").split(TEXT_SLOT)
    tokens = tuple(t for part in parts for t in tokenizer.inner(part, add_special_tokens=False).input_ids)
    if tokens != encoder.prompt_tokens("x") or "strftime_now" in str(tokenizer.inner.chat_template):
        raise _differs(folder, "prompt", "version 0.1 rendered this chat template otherwise")


def _damaged(place: str, why: object) -> ModelError:
    return ModelError(f"{place} is damaged ({why}): export the run again, or copy the bundle again")


def _differs(folder: Path, what: str, why: str) -> ModelError:
    return ModelError(
        f"the {what} of the bundle in {folder} is not the one that it was built with ({why}): the student "
        "would be asked something else; export the run again with this version"
    )


def _check_files(folder: Path, contents: Contents | BaselineContents, *, merged: bool) -> None:
    """Compare the files with their digests in bundle.json: the merged weights, or all others."""
    for name, digest in contents.files.items():
        if name.startswith(f"{MERGED}/") != merged:
            continue
        path = folder / name
        if not path.is_file():
            raise ModelError(f"the bundle in {folder} lacks {name}: copy it again, or export the run again")
        if jsonio.file_digest(path) != digest:
            raise ModelError(
                f"{path} was altered: its sha256 is not the one in {FILE}; copy the bundle again, or "
                "export the run again"
            )
