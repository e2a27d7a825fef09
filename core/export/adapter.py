"""The adapter stage: keep a remote checkpoint, download its adapter, and compare it with the server."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from core.config import Config, ConfigSection, EngineChoice, LoraConfig
from core.engines import Checkpoint, Device, score_differences
from core.engines.local import check_fits, open_peft
from core.errors import StageError
from core.records import iter_examples
from core.results import AdapterDownload, AdapterParity
from core.stage import StageIO, stage
from core.student.encoding import EncodeSettings
from core.student.train_stage import checkpoint, lora_spec

if TYPE_CHECKING:
    from core.pipeline.context import RunContext

FOLDER = "adapter"
PARITY = "parity.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


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


def content(config: AdapterSettings, context: RunContext) -> dict[str, str]:
    """Digests of what was trained and of the base model that it is checked with."""
    source = context.engine.local_model
    return {**context.student_content(), "local_model": source.digest if source else "none"}


@stage(
    "adapter",
    version=2,
    inputs=("split", "checkpoint"),
    content=content,
    publishes={
        **{f"{FOLDER}/{name}": f"{{phase.folder}}/{FOLDER}/{name}" for name in ADAPTER_FILES},
        PARITY: f"{{phase.folder}}/{FOLDER}/{PARITY}",
    },
    shows=f"{{phase.folder}}/{FOLDER}/{ADAPTER_FILES[-1]}",
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
    adapter = engine.download_adapter(point, io.out / FOLDER)
    found = _parity(config, point, io)
    found.write(io.out / PARITY)
    return AdapterDownload(bytes=adapter.bytes, files=dict(adapter.files), parity=found)


def _parity(config: AdapterSettings, point: Checkpoint, io: StageIO) -> AdapterParity:
    """Compare the downloaded adapter with the server on rows of val. Raises StageError if none is exact."""
    engine, folder = io.context.engine, io.out / FOLDER
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
