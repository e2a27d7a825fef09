"""A real client of the Tinker server and a tiny model for it, as tests of the server use them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import random
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker as sdk
from safetensors.numpy import save_file
from tinker import types

from core.base_model import resolve_model
from core.engines import AdamParams, Datum, LoraSpec
from core.engines.local import LocalEngine
from tests.servers import tinker

# The SDK reads it when a client is made.
os.environ["TINKER_TELEMETRY"] = "0"

NAME = "tiny/base"
VOCABULARY = 211
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LORA = LoraSpec(rank=4, alpha=32.0, dropout=0.0, seed=11)
ADAM = AdamParams(learning_rate=5e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.01, grad_clip_norm=1.0)


@functools.cache
def shared_model() -> Path:
    """A tiny model, once a process."""
    return write_model(_shared_folder() / "model")


@functools.cache
def shared_server() -> tinker.TinkerServer:
    """A server over it, once a process, since each takes seconds to import what it computes with."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = _shared_folder() / "server"
    # This process computes with the same things: it imports them while the server does.
    imports = threading.Thread(target=importlib.import_module, args=("core.engines.local.session",))
    imports.start()
    try:
        return stack.enter_context(tinker.serve(shared_model(), folder, names=(NAME, "tiny/other")))
    finally:
        imports.join()


def fresh_server() -> tinker.TinkerServer:
    """The shared one, behaving as at its start."""
    server = shared_server()
    server.recover()
    return server


@functools.cache
def _shared_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="understudy-tinker-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def write_model(folder: Path) -> Path:
    """A random two-layer Llama whose token i is the word "w<i>", written without importing torch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    dice = np.random.default_rng(1)
    save_file(
        {name: _weight(dice, *shape) for name, shape in _shapes().items()}, folder / "model.safetensors"
    )
    _write_tokenizer(folder)
    return folder


def _weight(dice: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Wider than start-up weights, which would make every prediction alike; norms are 1."""
    return (np.ones(shape) if len(shape) == 1 else dice.normal(0, 0.08, shape)).astype(np.float32)


def _shapes() -> dict[str, tuple[int, ...]]:
    width, inner, kv = 64, 96, 32
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, width),
        "model.norm.weight": (width,),
    }
    for layer in ("model.layers.0", "model.layers.1"):
        shapes |= {f"{layer}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (width, width) for name in "qo"}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (kv, width) for name in "kv"}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, inner)
    return shapes


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


@functools.cache
def local_engine() -> LocalEngine:
    """The engine that the server computes with, over the shared model, in this process."""
    source = resolve_model(str(shared_model()), cache=_shared_folder() / "cache")
    return LocalEngine(source, device="cpu", train_dtype="float32")


@contextlib.contextmanager
def service(server: tinker.TinkerServer, key: str = tinker.KEY) -> Iterator[sdk.ServiceClient]:
    """A client with a session of its own, finished at the end."""
    client = sdk.ServiceClient(base_url=server.base_url, api_key=key)
    try:
        yield client
    finally:
        # Where the server lost the session there is nothing to finish.
        holder = client._session_holder
        if holder is not None:
            holder.close()


def rest(server: tinker.TinkerServer, key: str = tinker.KEY) -> sdk.RestClient:
    return sdk.RestClient(base_url=server.base_url, api_key=key)


def post(server: tinker.TinkerServer, call: str, body: bytes | dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of one request without the SDK."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/x-protobuf" if isinstance(body, bytes) else "application/json"
    headers = {"X-API-Key": tinker.KEY, "Content-Type": kind}
    request = urllib.request.Request(f"{server.base_url}/api/v1/{call}", sent, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def refused(call: Callable[[], object]) -> sdk.RequestFailedError:
    """The failure of a request that was taken in."""
    with pytest.raises(sdk.RequestFailedError) as caught:
        call()
    return caught.value


def trainer(client: sdk.ServiceClient, lora: LoraSpec = LORA) -> sdk.TrainingClient:
    made = client.create_lora_training_client(
        NAME,
        rank=lora.rank,
        seed=lora.seed,
        train_mlp=lora.train_mlp,
        train_attn=lora.train_attention,
        train_unembed=lora.train_unembed,
    )
    return made.result()


def batch(seed: int, rows: int = 4) -> list[Datum]:
    """Random rows that differ in length and bear loss at their end."""
    rng = random.Random(seed)
    made = []
    for _ in range(rows):
        tokens = [rng.randrange(VOCABULARY) for _ in range(rng.randrange(12, 24))]
        weights = [0.0] * 7 + [rng.random() / rows for _ in tokens[8:]]
        made.append(Datum(tuple(tokens[:-1]), tuple(tokens[1:]), tuple(weights)))
    return made


def data(rows: Sequence[Datum]) -> list[types.Datum]:
    """As the SDK takes them."""
    return [
        types.Datum(
            model_input=prompt(row.tokens),
            loss_fn_inputs={
                "target_tokens": tensor(np.array(row.targets, np.int64)),
                "weights": tensor(np.array(row.weights, np.float32)),
            },
        )
        for row in rows
    ]


def adam(params: AdamParams = ADAM) -> types.AdamParams:
    return types.AdamParams(
        learning_rate=params.learning_rate,
        beta1=params.beta1,
        beta2=params.beta2,
        eps=params.eps,
        weight_decay=params.weight_decay,
        grad_clip_norm=params.grad_clip_norm,
    )


def step(client: sdk.TrainingClient, seed: int) -> float:
    """One optimiser step over batch(seed); gives the loss before it."""
    forwarded = client.forward_backward(data(batch(seed)), "cross_entropy")
    updated = client.optim_step(adam())
    loss = forwarded.result().metrics["loss:sum"]
    updated.result()
    return loss


def prompt(tokens: Sequence[int]) -> types.ModelInput:
    return types.ModelInput.from_ints(list(tokens))


def tensor(array: np.ndarray[Any, Any]) -> types.TensorData:
    return types.TensorData.from_numpy(array)


def greedy(max_tokens: int, stop: list[int] | None = None) -> types.SamplingParams:
    """With no stop but what is given, not even the model's own end."""
    return types.SamplingParams(max_tokens=max_tokens, temperature=0.0, stop=stop or [])


def sampled(client: sdk.SamplingClient, tokens: Sequence[int], max_tokens: int = 4) -> list[int]:
    """A greedy continuation."""
    found = client.sample(prompt(tokens), 1, greedy(max_tokens)).result()
    return found.sequences[0].tokens
