"""The adapter stage: keep a remote checkpoint, download its adapter, and compare it with the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from core import jsonio
from core.config.base import Section
from core.config.engine import EngineChoice
from core.config.student import LoraConfig
from core.data.writing import iter_examples
from core.engines.base import Checkpoint, Device, Engine
from core.engines.peft import check_fits, open_peft, parity
from core.stageio import StageIO
from core.student.encoding import Encoder, EncodeSlice
from core.student.segment import checkpoint, lora_spec_of

NAME = "adapter"
VERSION = 2
FOLDER = "adapter"
PARITY = "parity.json"


class AdapterSlice(Section):
    """What decides the files and the rows they are checked on."""

    engine: EngineChoice
    seed: int
    lora: LoraConfig
    prompt: EncodeSlice
    parity_rows: int


@dataclass(frozen=True, slots=True)
class AdapterRun:
    """The stage's function, bound to the engine and the encoder."""

    engine: Callable[[], Engine]
    encoder: Callable[[bool], Encoder]

    def __call__(self, config: AdapterSlice, io: StageIO) -> dict[str, Any]:
        """Write adapter/ in PEFT's layout and parity.json. Inputs: `checkpoint` and `split`.

        Raises CheckpointGone, StageError, SessionLost, and ModelError for an adapter that does not fit
        the base model.
        """
        engine = self.engine()
        point = checkpoint(engine, io.inputs["checkpoint"])
        engine.keep(point)
        folder = io.out / FOLDER
        adapter = engine.download_adapter(point, folder)
        found = self._parity(config, engine, point, folder, io)
        jsonio.write_json(io.out / PARITY, found)
        return {"bytes": adapter.bytes, "files": dict(adapter.files), "parity": found}

    def _parity(
        self, config: AdapterSlice, engine: Engine, point: Checkpoint, folder: Path, io: StageIO
    ) -> dict[str, Any]:
        source = engine.local_model
        if source is None:
            return {
                "checked": False,
                "why": "student.engine.local_model names no base model to check it with",
            }
        trained = check_fits(folder, source, lora_spec_of(config.lora, config.seed))
        encoder = self.encoder(False)
        texts = [e.text for e in islice(iter_examples(io.inputs["split"] / "val.csv"), config.parity_rows)]
        encoded = encoder.tokenizer.encode_texts(texts)
        prompts = [encoder.prompt_with_room(text, encoder.label_tokens).tokens for text in encoded]
        choices = [choice for forms in encoder.choices().values() for choice in forms]
        there = engine.sampler(point.sampler)
        here = open_peft(source, folder, Device("cpu"))
        try:
            apart = parity(there, here, prompts, choices)
        finally:
            there.close()
            here.close()
        return {"checked": True, "trained_tensors": trained, "base_digest": source.digest, **asdict(apart)}
