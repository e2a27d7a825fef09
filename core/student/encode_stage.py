"""The encode stage: turn accepted samples into tokens and weights, and count every cut and drop."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from core import jsonio
from core.config import StudentConfig
from core.engines import Datum
from core.errors import DataError
from core.jsonio import Record
from core.records import AcceptedSample
from core.rejection.stage import read_accepted
from core.stage import StageIO, stage
from core.student.encoding import EncodedExample, Encoder, EncodeSettings

DATA_FILE = "examples.parquet"
SFT_FILE = "train_sft.jsonl"
SUMMARY_FILE = "encode_summary.json"
_PROGRESS = 1000
_DROP_REASONS = {
    "no_room": "the answer alone fills student.max_length",
    "too_little_text": "the answer leaves less of the text than student.min_text_share",
}
"""Why a sample is not trained on, by the name under which the summary counts it."""


class EncodeStageSettings(EncodeSettings):
    """The part of a student section that decides the examples."""

    min_text_share: float
    rationales: Literal["own", "shuffled"]
    seed: int | None
    """Seed of the order of shuffled rationales; None otherwise."""

    @classmethod
    def for_training(cls, config: StudentConfig, seed: int) -> EncodeStageSettings:
        of = EncodeSettings.of(config).model_dump()
        drawn = seed if config.rationales == "shuffled" else None
        return cls(**of, min_text_share=config.min_text_share, rationales=config.rationales, seed=drawn)


@dataclass(frozen=True, slots=True)
class Rationales:
    """How many samples learn a rationale of their `own` text, or one with the `same_words`."""

    kind: Literal["own", "shuffled"]
    samples: int
    own: int
    same_words: int


class EncodeSummary(Record):
    """What is read of encode_summary.json."""

    examples: int
    """Accepted samples that are trained on."""
    cut_texts: int
    cut_tokens: int
    dropped: int
    """Accepted samples that are not trained on, for `dropped_reason`."""
    dropped_reason: str | None
    rationales: Rationales


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """Labels and hashes of the encoded examples, in order."""

    labels: list[int]
    hashes: list[str]


@stage(
    "encode",
    version=3,
    inputs=("reject",),
    content=lambda config, context: context.token_content(),
    publishes={name: f"student_phase/{name}" for name in (SFT_FILE, SUMMARY_FILE)},
)
def encode(config: EncodeStageSettings, io: StageIO) -> dict[str, Any]:
    """Write examples.parquet, train_sft.jsonl and encode_summary.json.

    Raises DataError if no accepted sample can be trained on.
    """
    encoder = io.context.encoder()
    accepted = list(read_accepted(io.input("reject") / "accepted_samples.jsonl"))
    donors = accepted if config.seed is None else shuffled(accepted, config.seed)
    pairs = list(zip(accepted, donors, strict=True))
    samples = [replace(sample, reasoning=donor.reasoning) for sample, donor in pairs]
    encoded, dropped = _encode(encoder, samples, config.min_text_share, io)
    counts = Counter(dropped.values())
    reasons = "; ".join(f"{why} ({counts[name]})" for name, why in _DROP_REASONS.items() if counts[name])
    if not encoded:
        encoder.require_room(encoder.label_tokens)
        raise DataError(
            f"none of {len(samples)} accepted samples can be trained on with student.max_length "
            f"{config.max_length}: {reasons}; raise it, or add the rule too_long"
        )
    table = {
        "example_id": pa.array([e.example_id for e in encoded]),
        "label": pa.array([e.label for e in encoded], pa.int8()),
        "tokens": pa.array([[*e.datum.tokens, e.datum.targets[-1]] for e in encoded], pa.list_(pa.int32())),
        "weights": pa.array([list(e.datum.weights) for e in encoded], pa.list_(pa.float64())),
        "hash": pa.array([e.hash for e in encoded]),
    }
    pq.write_table(pa.table(table), io.out / DATA_FILE, compression="zstd")
    conversations = (
        {
            "sample_id": sample.sample_id,
            "messages": [
                *(jsonio.as_row(m) for m in encoder.prompt_messages(sample.text)),
                {"role": "assistant", "content": encoder.answer(sample.label, sample.reasoning)},
            ],
            "label": sample.label,
            "rationale_of": donor.sample_id,
        }
        for sample, donor in zip(samples, donors, strict=True)
        if sample.sample_id not in dropped
    )
    jsonio.write_jsonl(io.out / SFT_FILE, conversations)
    summary = {
        "accepted": len(accepted),
        **_counts(encoder, encoded),
        "dropped": len(dropped),
        "dropped_by": {name: counts[name] for name in _DROP_REASONS},
        "dropped_samples": list(dropped)[:20],
        "dropped_reason": reasons or None,
        "chat_template_digest": encoder.tokenizer.template_digest,
        "encoder_digest": encoder.digest,
        "rationales": {
            "kind": config.rationales,
            "seed": config.seed,
            "samples": len(pairs),
            "own": sum(sample.text == donor.text for sample, donor in pairs),
            "same_words": sum(sample.reasoning == donor.reasoning for sample, donor in pairs),
        },
    }
    jsonio.write_json(io.out / SUMMARY_FILE, summary)
    return summary


def _encode(
    encoder: Encoder, samples: Sequence[AcceptedSample], min_share: float, io: StageIO
) -> tuple[list[EncodedExample], dict[str, str]]:
    """Return the examples, and the name of the reason by the id of each sample that is dropped."""
    encoded, dropped = list[EncodedExample](), dict[str, str]()
    for done, sample in enumerate(samples, start=1):
        (text,) = encoder.tokenizer.encode_texts([sample.text])
        example = encoder.example(sample.sample_id, text, sample.label, sample.reasoning)
        if example is None:
            dropped[sample.sample_id] = "no_room"
        elif example.cut and encoder.kept_share(text, example.cut) < min_share:
            dropped[sample.sample_id] = "too_little_text"
        else:
            encoded.append(example)
        if done % _PROGRESS == 0 or done == len(samples):
            io.progress.update(done, len(samples))
    return encoded, dropped


def _counts(encoder: Encoder, encoded: list[EncodedExample]) -> dict[str, Any]:
    lengths = sorted(len(e.datum.tokens) + 1 for e in encoded)
    return {
        "examples": len(encoded),
        "label_counts": {
            code: sum(e.label == label for e in encoded) for label, code in enumerate(encoder.labels.codes)
        },
        "tokens": sum(lengths),
        "longest": lengths[-1],
        "median_length": lengths[len(lengths) // 2],
        "cut_texts": sum(e.cut > 0 for e in encoded),
        "cut_tokens": sum(e.cut for e in encoded),
    }


def shuffled(samples: Sequence[AcceptedSample], seed: int) -> list[AcceptedSample]:
    """Return the sample whose rationale each sample learns: one of another text with the same gold label.

    Within each label the samples are ordered by hashes of `seed` and text, and each takes the rationale of
    the one as many places later as the most frequent text has samples. So no text keeps one of its own unless
    it has more than half of its label's samples, and then as few as possible.
    """

    def rank(sample: AcceptedSample) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}:{sample.text}".encode()).digest(), sample.sample_id

    donor: dict[str, AcceptedSample] = {}
    for label in sorted({s.label for s in samples}):
        of = sorted((s for s in samples if s.label == label), key=rank)
        by = max(Counter(s.text for s in of).values(), default=0)
        donor |= {s.sample_id: of[(i + by) % len(of)] for i, s in enumerate(of)}
    return [donor[s.sample_id] for s in samples]


def read_set(path: Path) -> EncodedSet:
    table = pq.read_table(path, columns=["label", "hash"])
    return EncodedSet(table["label"].to_pylist(), table["hash"].to_pylist())


def read_data(path: Path) -> list[Datum]:
    """Read the encoded examples in DATA_FILE, in order."""
    table = pq.read_table(path, columns=["tokens", "weights"])
    return [
        Datum(tuple(tokens[:-1]), tuple(tokens[1:]), tuple(weights))
        for tokens, weights in zip(table["tokens"].to_pylist(), table["weights"].to_pylist(), strict=True)
    ]
