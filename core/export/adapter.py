"""The adapter stage: a checkpoint on a server is kept for ever, taken home, and held against the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jsonio
from core.config.base import Section
from core.config.student import LoraConfig
from core.data.writing import iter_examples
from core.stageio import StageIO
from core.student.encoding import Encoder, EncodeSlice
from core.student.segment import checkpoint, lora_spec_of

if TYPE_CHECKING:
    from core.engines.base import Checkpoint
    from core.engines.local.weights import ModelSource
    from core.engines.tinker import TinkerEngine

NAME = "adapter"
VERSION = 2
FOLDER = "adapter"
PARITY = "parity.json"


class AdapterSlice(Section):
    """What decides the files and the rows they are checked on."""

    engine: str
    seed: int
    lora: LoraConfig
    prompt: EncodeSlice
    parity_rows: int


@dataclass(frozen=True, slots=True)
class AdapterRun:
    """The stage's function. `source` is the base model for the local engine, None where there is none."""

    engine: Callable[[], TinkerEngine]
    source: Callable[[], ModelSource | None]
    encoder: Callable[[bool], Encoder]

    def __call__(self, config: AdapterSlice, io: StageIO) -> dict[str, Any]:
        """Write adapter/ in PEFT's layout and parity.json. Inputs: `checkpoint` and `split`.

        Raises CheckpointGone, StageError, SessionLost, and ModelError for an adapter that does not fit
        the base model.
        """
        engine = self.engine()
        point = checkpoint(engine, io.inputs["checkpoint"])
        engine.keep(point)
        home = io.out / FOLDER
        adapter = engine.take_home(point, home)
        found = self._parity(config, engine, point, home, io)
        jsonio.write_json(io.out / PARITY, found)
        return {"bytes": adapter.bytes, "files": dict(adapter.files), "parity": found}

    def _parity(
        self, config: AdapterSlice, engine: TinkerEngine, point: Checkpoint, home: Path, io: StageIO
    ) -> dict[str, Any]:
        source = self.source()
        if source is None:
            return {"checked": False, "why": "student.local_model names no base model to check it with"}
        from core.engines.local import LocalEngine
        from core.engines.tinker.parity import check_fits, parity, sampler_of

        trained = check_fits(home, source, lora_spec_of(config.lora, config.seed))
        encoder = self.encoder(False)
        texts = [e.text for e in islice(iter_examples(io.inputs["split"] / "val.csv"), config.parity_rows)]
        encoded = encoder.tokenizer.encode_texts(texts)
        prompts = [encoder.prompt_with_room(text, encoder.label_tokens).tokens for text in encoded]
        choices = [choice for forms in encoder.choices().values() for choice in forms]
        there = engine.sampler(point.sampler)
        here = sampler_of(home, LocalEngine(source, device="cpu", train_dtype="float32"))
        try:
            apart = parity(there, here, prompts, choices)
        finally:
            there.close()
            here.close()
        return {"checked": True, "trained_tensors": trained, "base_digest": source.digest, **asdict(apart)}
