"""What the Tinker server did, as lines of a file that outlives it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from core.engines import Datum
from tests.servers.tinker_orders import CheckpointKind, Told

FILE = "records.jsonl"


class Created(Told):
    """A training model was made; a model made from a state has a Restored as well."""

    record: Literal["created"] = "created"
    model: str
    base_model: str
    rank: int
    seed: int
    train_mlp: bool
    train_attn: bool
    train_unembed: bool


class Restored(Told):
    """A training model took its weights from a state."""

    record: Literal["restored"] = "restored"
    model: str
    path: str
    step: int
    """Steps the state had behind it."""
    optimizer: bool


class Stepped(Told):
    """An optimiser step was applied."""

    record: Literal["stepped"] = "stepped"
    model: str
    seq_id: int
    step: int
    """How many steps the weights had behind them, from 0; a restored state's count."""
    batch: str
    """batch_hash of all data since the step before."""
    loss_fn: str
    loss: float
    grad_norm: float | None
    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    grad_clip_norm: float
    cycle: int
    """The clock cycle it was done in; 0 without a clock."""


class Saved(Told):
    """A checkpoint was written."""

    record: Literal["saved"] = "saved"
    model: str
    path: str
    kind: CheckpointKind
    step: int
    ttl_seconds: int | None


class Sampled(Told):
    """A request for samples came in."""

    record: Literal["sampled"] = "sampled"
    session: str
    seq_id: int
    prompt: str
    """prompt_hash of its prompt."""
    outstanding: int
    """Requests not finished yet, this one too."""


class Beat(Told):
    """A session's heartbeat."""

    record: Literal["beat"] = "beat"
    session: str


Record = Created | Restored | Stepped | Saved | Sampled | Beat
RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="record")])
RECORDS: TypeAdapter[list[Record]] = TypeAdapter(list[Annotated[Record, Field(discriminator="record")]])


class Counts(Told):
    """All there was since the folder was new; `calls` since this process began."""

    sampled: int
    most_outstanding: int
    """Requests for samples that were unfinished at one time."""
    beats: int
    cycles: int
    """The number of the clock's cycle now."""
    calls: dict[str, int]
    """Requests by the last part of their path, refused and repeated ones too."""


class Records:
    """The file, and its lines in memory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        # A kill may have cut the last line.
        self.rows = [RECORD.validate_json(line) for line in lines if line.endswith(b"\n")]
        self._file = self._path.open("ab", buffering=0)
        if lines and not lines[-1].endswith(b"\n"):
            self._file.truncate(sum(len(line) for line in lines[:-1]))

    def add(self, row: Record) -> None:
        """Written before it is answered, so that a killed server has no unrecorded answer."""
        self._file.write(row.model_dump_json().encode() + b"\n")
        self.rows.append(row)

    def counts(self, cycles: int, calls: Counter[str]) -> Counts:
        sampled = [row for row in self.rows if isinstance(row, Sampled)]
        return Counts(
            sampled=len(sampled),
            most_outstanding=max((row.outstanding for row in sampled), default=0),
            beats=sum(isinstance(row, Beat) for row in self.rows),
            cycles=cycles,
            calls=dict(calls),
        )


def batch_hash(batch: Sequence[Datum]) -> str:
    """sha256 (hex) over tokens, targets and weights, and what policies need, as the protocol's fp32."""
    whole = hashlib.sha256()
    for datum in batch:
        whole.update(json.dumps([datum.tokens, datum.targets]).encode())
        for values in (datum.weights, datum.logprobs, datum.advantages):
            whole.update(struct.pack(f"<{len(values)}f", *values))
    return whole.hexdigest()


def prompt_hash(tokens: Sequence[int]) -> str:
    """sha256 (hex) over a prompt's tokens."""
    return hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()
