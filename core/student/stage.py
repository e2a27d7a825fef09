"""The encode stage: accepted samples in, tokens and weights out, every cut and drop counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from core import jsonio
from core.config.student import StudentConfig
from core.engines.base import Datum
from core.errors import DataError
from core.jsonio import Record
from core.records import AcceptedSample
from core.rejection.samples import read_accepted
from core.stage import StageIO, stage
from core.student.encoding import EncodedExample, Encoder, EncodeSettings
from core.student.rationales import shuffled

DATA_FILE = "examples.parquet"
SFT_FILE = "train_sft.jsonl"
SUMMARY_FILE = "encode_summary.json"
_CHUNK = 1000
_WHY = {
    "no_room": "the answer alone fills student.max_length",
    "too_little_text": "the answer leaves less of the text than student.min_text_share",
}
"""Why a sample is not trained on, by the name under which the summary counts it."""


class EncodeStageSettings(EncodeSettings):
    """What decides the examples: how they are asked and answered, and whose rationale each has."""

    min_text_share: float
    rationales: Literal["own", "shuffled"]
    seed: int | None
    """Draws the order; None where nothing is drawn."""

    @classmethod
    def for_training(cls, config: StudentConfig, seed: int) -> EncodeStageSettings:
        """The part of a student section that these settings need."""
        of = EncodeSettings.of(config).model_dump()
        drawn = seed if config.rationales == "shuffled" else None
        return cls(**of, min_text_share=config.min_text_share, rationales=config.rationales, seed=drawn)


@dataclass(frozen=True, slots=True)
class Rationales:
    """Whose rationales are learned: `own` samples have one of their own text, and `same_words` one that reads
    as their own, whoever's it is."""

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
    """What the plan needs of the encoded examples, without their tokens."""

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

    Raises DataError where no accepted sample can be trained on.
    """
    encoder = io.context.encoder()
    accepted = list(read_accepted(io.inputs["reject"] / "accepted_samples.jsonl"))
    whose = accepted if config.seed is None else shuffled(accepted, config.seed)
    samples = [replace(s, reasoning=w.reasoning) for s, w in zip(accepted, whose, strict=True)]
    rationale_of = {s.sample_id: w.sample_id for s, w in zip(accepted, whose, strict=True)}
    encoded, dropped = list[EncodedExample](), dict[str, str]()
    for sample, found in _encode(encoder, samples, config.min_text_share, io):
        if isinstance(found, str):
            dropped[sample.sample_id] = found
        else:
            encoded.append(found)
    if not encoded:
        encoder.require_room(encoder.label_tokens)
        raise DataError(
            f"none of {len(samples)} accepted samples can be trained on with student.max_length "
            f"{config.max_length}: {_why(dropped)}; raise it, or add the rule too_long"
        )
    _write_examples(io.out / DATA_FILE, encoded)
    jsonio.write_jsonl(
        io.out / SFT_FILE,
        (
            {**_conversation(encoder, s), "rationale_of": rationale_of[s.sample_id]}
            for s in samples
            if s.sample_id not in dropped
        ),
    )
    summary = {**_summary(encoder, encoded, dropped), "rationales": _rationales(config, accepted, whose)}
    jsonio.write_json(io.out / SUMMARY_FILE, summary)
    return summary


def read_set(folder: Path) -> EncodedSet:
    """Labels and hashes of the encoded examples, in order."""
    table = pq.read_table(folder / DATA_FILE, columns=["label", "hash"])
    return EncodedSet(table["label"].to_pylist(), table["hash"].to_pylist())


def read_data(folder: Path) -> list[Datum]:
    """The encoded examples themselves, in order."""
    table = pq.read_table(folder / DATA_FILE, columns=["tokens", "weights"])
    return [
        Datum(tuple(tokens[:-1]), tuple(tokens[1:]), tuple(weights))
        for tokens, weights in zip(table["tokens"].to_pylist(), table["weights"].to_pylist(), strict=True)
    ]


def _encode(
    encoder: Encoder, samples: list[AcceptedSample], min_share: float, io: StageIO
) -> Iterator[tuple[AcceptedSample, EncodedExample | str]]:
    """Each sample with its example, or with the name of the reason why there is none."""
    for start in range(0, len(samples), _CHUNK):
        chunk = samples[start : start + _CHUNK]
        texts = encoder.tokenizer.encode_texts([s.text for s in chunk])
        for sample, text in zip(chunk, texts, strict=True):
            example = encoder.example(sample.sample_id, text, sample.label, sample.reasoning)
            if example is None:
                yield sample, "no_room"
            elif example.cut and encoder.kept_share(text, example.cut) < min_share:
                yield sample, "too_little_text"
            else:
                yield sample, example
        io.progress.update(start + len(chunk), len(samples))


def _write_examples(path: Path, examples: list[EncodedExample]) -> None:
    table = pa.table(
        {
            "example_id": pa.array([e.example_id for e in examples]),
            "label": pa.array([e.label for e in examples], pa.int8()),
            "tokens": pa.array(
                [[*e.datum.tokens, e.datum.targets[-1]] for e in examples], pa.list_(pa.int32())
            ),
            "weights": pa.array([list(e.datum.weights) for e in examples], pa.list_(pa.float64())),
            "hash": pa.array([e.hash for e in examples]),
        }
    )
    pq.write_table(table, path, compression="zstd")


def _conversation(encoder: Encoder, sample: AcceptedSample) -> dict[str, Any]:
    prompt = encoder.prompt_messages(sample.text)
    answer = encoder.answer(sample.label, sample.reasoning)
    return {
        "sample_id": sample.sample_id,
        "messages": [*(jsonio.as_row(m) for m in prompt), {"role": "assistant", "content": answer}],
        "label": sample.label,
    }


def _rationales(
    config: EncodeStageSettings, accepted: list[AcceptedSample], whose: list[AcceptedSample]
) -> dict[str, Any]:
    """Whose rationales are learnt; `own` counts samples with one of their own text's, `same_words` those
    whose rationale reads as their own, whoever's it is."""
    pairs = list(zip(accepted, whose, strict=True))
    return {
        "kind": config.rationales,
        "seed": config.seed,
        "samples": len(pairs),
        "own": sum(s.text == w.text for s, w in pairs),
        "same_words": sum(s.reasoning == w.reasoning for s, w in pairs),
    }


def _why(dropped: Mapping[str, str]) -> str:
    counts = Counter(dropped.values())
    return "; ".join(f"{_WHY[name]} ({counts[name]})" for name in _WHY if counts[name])


def _summary(encoder: Encoder, encoded: list[EncodedExample], dropped: Mapping[str, str]) -> dict[str, Any]:
    """`examples` is the number trained on, of `accepted` samples."""
    lengths = sorted(len(e.datum.tokens) + 1 for e in encoded)
    counts = Counter(dropped.values())
    return {
        "accepted": len(encoded) + len(dropped),
        "examples": len(encoded),
        "label_counts": {
            code: sum(e.label == label for e in encoded) for label, code in enumerate(encoder.labels.codes)
        },
        "tokens": sum(lengths),
        "longest": lengths[-1],
        "median_length": lengths[len(lengths) // 2],
        "cut_texts": sum(e.cut > 0 for e in encoded),
        "cut_tokens": sum(e.cut for e in encoded),
        "dropped": len(dropped),
        "dropped_by": {name: counts[name] for name in _WHY},
        "dropped_samples": list(dropped)[:20],
        "dropped_reason": _why(dropped) or None,
        "chat_template_digest": encoder.tokenizer.template_digest,
        "encoder_digest": encoder.digest,
    }
