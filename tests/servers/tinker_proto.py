"""The Tinker protocol's messages: protobuf where the SDK speaks it, JSON where older ones did.

The schema is the one that ships with the SDK, loaded by its file: the SDK itself takes seconds
to import and would start what only a client needs.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.engines import Datum

PROTOBUF = "application/x-protobuf"


class Malformed(ValueError):
    """A request that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One forward or forward_backward."""

    model: str
    seq_id: int
    loss_fn: str
    clips: tuple[float, float]
    """The ratio's bounds; where none are sent, those that the hosted service takes."""
    forward_only: bool
    read: Callable[[], tuple[Datum, ...]]
    """The data; raises Malformed. Read late, so that what is wrong with them is that request's failure."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a forward pass gives: the loss (nats, weighted sum), each target's log-probability."""

    loss: float
    logprobs: list[list[float]]

    def encode(self) -> bytes:
        message = schema().ForwardBackwardOutput(loss_fn_output_type="ArrayRecord")
        message.metrics["loss:sum"] = self.loss
        record = message.loss_fn_outputs.add(type_tag="ArrayRecord", num_datums=len(self.logprobs))
        rows = [np.asarray(row, np.float32) for row in self.logprobs]
        ends = np.cumsum([0, *(row.nbytes for row in rows)], dtype=np.int64)
        tensor = record.fields["logprobs"]
        tensor.data, tensor.offsets = b"".join(row.tobytes() for row in rows), ends.tobytes()
        tensor.dtype = schema().DTYPE_FLOAT32
        return bytes(message.SerializeToString())

    def json(self) -> dict[str, object]:
        rows = [{"logprobs": {"data": row, "dtype": "float32", "shape": [len(row)]}} for row in self.logprobs]
        metrics = {"loss:sum": self.loss}
        return {"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": rows, "metrics": metrics}


@dataclass(frozen=True, slots=True)
class Said:
    """One sampled sequence; `top` is (tokens, k) ids and log-probabilities."""

    tokens: list[int]
    logprobs: list[float]
    stop_reason: str
    top: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(slots=True)
class Answer:
    """What a request for samples gives."""

    said: list[Said]
    prompt_logprobs: list[float] | None = None
    """NaN where none was computed."""
    top_prompt: tuple[np.ndarray, np.ndarray] | None = None
    targets: list[float] | None = None
    """Log-probabilities in the order and layout of the ids that were asked for."""
    target_shape: list[int] = field(default_factory=list)
    target_sparse: tuple[list[int], list[int]] | None = None
    """CSR row pointers and columns, where the ids came so."""

    def encode(self) -> bytes:
        message = schema().SampleResponse()
        for said in self.said:
            reason = schema().STOP_REASON_STOP if said.stop_reason == "stop" else schema().STOP_REASON_LENGTH
            row = message.sequences.add(stop_reason=reason)
            row.tokens = np.asarray(said.tokens, np.int32).tobytes()
            row.logprobs = np.asarray(said.logprobs, np.float32).tobytes()
            _put_top(row.topk_sampled_logprobs, said.top)
        if self.prompt_logprobs is not None:
            message.prompt_logprobs = np.asarray(self.prompt_logprobs, np.float32).tobytes()
        _put_top(message.topk_prompt_logprobs, self.top_prompt)
        if self.targets is not None:
            self._put_targets(message.target_prompt_logprobs)
        return bytes(message.SerializeToString())

    def _put_targets(self, tensor: Any) -> None:
        tensor.dtype = schema().DTYPE_FLOAT32
        tensor.shape.extend(self.target_shape)
        values = np.asarray(self.targets, np.float32).tobytes()
        if self.target_sparse is None:
            tensor.dense = values
            return
        rows, columns = self.target_sparse
        tensor.sparse_csr.values = values
        tensor.sparse_csr.crow_indices = np.asarray(rows, np.int64).tobytes()
        tensor.sparse_csr.col_indices = np.asarray(columns, np.int64).tobytes()

    def json(self) -> dict[str, object]:
        prompt = self.prompt_logprobs
        return {
            "type": "sample",
            "sequences": [
                {"tokens": s.tokens, "logprobs": s.logprobs, "stop_reason": s.stop_reason} for s in self.said
            ],
            "prompt_logprobs": None if prompt is None else [None if v != v else v for v in prompt],
            "topk_prompt_logprobs": None if self.top_prompt is None else _top_lists(*self.top_prompt),
        }


@functools.cache
def schema() -> Any:
    """The SDK's generated module; generated code has no types that help here."""
    package = importlib.util.find_spec("tinker")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the package tinker is not installed; `make setup` installs it")
    path = Path(package.submodule_search_locations[0]) / "proto" / "tinker_public_pb2.py"
    spec = importlib.util.spec_from_file_location("tinker_public_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_forward(body: bytes) -> Asked:
    """A request of /forward_backward. Raises Malformed."""
    message = schema().ForwardBackwardRequest()
    try:
        message.ParseFromString(body)
    except Exception as e:
        raise Malformed(f"the body is no ForwardBackwardRequest: {e}") from e
    data = functools.partial(_data, message.data)
    clips = _clips(message.loss_fn_config)
    return Asked(message.model_id, message.seq_id, message.loss_fn, clips, message.forward_only, data)


def read_forward_json(body: dict[str, Any]) -> Asked:
    """A request of /forward or /forward_backward as SDKs before 0.25 send it. Raises Malformed."""
    forward_only = "forward_input" in body
    try:
        asked = body["forward_input" if forward_only else "forward_backward_input"]
        data = functools.partial(_json_data, asked["data"])
        clips = _clips(asked.get("loss_fn_config") or {})
        return Asked(body["model_id"], body["seq_id"], asked["loss_fn"], clips, forward_only, data)
    except (KeyError, TypeError) as e:
        raise Malformed(f"the body is no forward request: {e!r}") from e


def _json_data(rows: list[Any]) -> tuple[Datum, ...]:
    try:
        return tuple(
            _checked(
                i,
                [t for chunk in datum["model_input"]["chunks"] for t in chunk["tokens"]],
                {name: tensor["data"] for name, tensor in datum["loss_fn_inputs"].items()},
            )
            for i, datum in enumerate(rows)
        )
    except (KeyError, TypeError) as e:
        raise Malformed(f"the data are no data of a forward request: {e!r}") from e


def _data(rows: Sequence[Any]) -> tuple[Datum, ...]:
    if not rows:
        raise Malformed("the request has no data")
    return tuple(_datum(i, row) for i, row in enumerate(rows))


def _datum(place: int, message: Any) -> Datum:
    tokens: list[int] = []
    for chunk in message.model_input:
        if not chunk.HasField("encoded_text"):
            raise Malformed(f"data[{place}] has a chunk that is no text; this model reads only text")
        tokens += np.frombuffer(chunk.encoded_text.tokens, np.int32).tolist()
    inputs = {name: _values(tensor) for name, tensor in message.loss_fn_inputs.items()}
    return _checked(place, tokens, inputs)


def _checked(place: int, tokens: Sequence[int], inputs: Mapping[str, Sequence[float]]) -> Datum:
    if "target_tokens" not in inputs:
        raise Malformed(f"data[{place}] has no target_tokens")
    targets, advantages = inputs["target_tokens"], inputs.get("advantages")
    borne = inputs.get("weights", [1.0] * len(targets))
    if advantages is not None:
        # A position without an advantage bears no loss: the model need not be asked about it.
        borne = [1.0 if a else 0.0 for a in advantages]
    if not len(tokens) == len(targets) == len(borne):
        lengths = f"{len(tokens)} tokens, {len(targets)} target_tokens and {len(borne)} weights"
        raise Malformed(f"data[{place}] has {lengths}; all must be equal")
    return Datum(
        tuple(tokens),
        tuple(int(t) for t in targets),
        tuple(float(w) for w in borne),
        tuple(float(q) for q in inputs.get("logprobs", ())),
        tuple(float(a) for a in advantages or ()),
    )


def _clips(config: Mapping[str, float]) -> tuple[float, float]:
    return config.get("clip_low_threshold", 0.8), config.get("clip_high_threshold", 1.2)


def _values(tensor: Any) -> list[float]:
    dtype = np.dtype(np.float32 if tensor.dtype == schema().DTYPE_FLOAT32 else np.int64)
    if not tensor.HasField("sparse_csr"):
        return list(np.frombuffer(tensor.dense, dtype).tolist())
    csr, dense = tensor.sparse_csr, np.zeros(tuple(tensor.shape), dtype)
    ends = np.frombuffer(csr.crow_indices, np.int64)
    rows = ends[1:] - ends[:-1]
    places = np.repeat(np.arange(len(rows)), rows), np.frombuffer(csr.col_indices, np.int64)
    dense[places] = np.frombuffer(csr.values, dtype)
    return list(dense.ravel().tolist())


def _put_top(message: Any, top: tuple[np.ndarray, np.ndarray] | None) -> None:
    if top is None:
        return
    ids, logprobs = top
    message.token_ids, message.logprobs = (
        ids.astype(np.int32).tobytes(),
        logprobs.astype(np.float32).tobytes(),
    )
    message.length, message.k = ids.shape


def _top_lists(ids: np.ndarray, logprobs: np.ndarray) -> list[list[tuple[int, float]] | None]:
    rows = zip(ids.tolist(), logprobs.tolist(), strict=True)
    return [None if found[0] < -9e4 else list(zip(row, found, strict=True)) for row, found in rows]
