"""A whole engine in about 150 lines: a bigram model with real log-probabilities, trained by gradient steps.

It has the four parts of an added engine: settings, engine, session and sampler.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from core import jsonio
from core.base_model import ModelSource, resolve_model
from core.config import EngineSettings
from core.engines import (
    CROSS_ENTROPY,
    AdamParams,
    Capabilities,
    Checkpoint,
    ChoiceScores,
    Datum,
    Engine,
    EngineIdentity,
    GenerateParams,
    Generation,
    LoraSpec,
    Loss,
    SamplerRef,
    SaveLabel,
    StateRef,
    StepResult,
)
from core.engines.sampling import Report, Rows

VOCABULARY = 49_152
Weights = dict[int, dict[int, float]]
"""The logit of a token after another one; 0 if it is not listed."""


class BigramSettings(EngineSettings):
    """Counts which token follows which."""

    boost: float = 100.0
    """Factor of the learning rate."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(grad_clipping=False)

    def open(self, model: str) -> Engine:
        return BigramEngine(model, self.boost)


class BigramEngine(Engine):
    """Trains and samples in this process."""

    def __init__(self, model: str, boost: float) -> None:
        self.model, self.boost = model, boost

    @property
    def local_model(self) -> ModelSource:
        return resolve_model(self.model)

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("bigram", None, self.local_model.digest)

    @property
    def fingerprint(self) -> Mapping[str, str]:
        return {"engine": "bigram", "boost": str(self.boost)}

    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimizer: bool = True) -> BigramSession:
        weights = read(Path(from_state.location)) if from_state else {}
        return BigramSession(weights, self.identity, self.boost)

    def sampler(
        self, ref: SamplerRef | None, *, merge: bool = True, owns_engine: bool = False
    ) -> BigramSampler:
        return BigramSampler(read(Path(ref.location)) if ref else {})

    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        return StateRef(str(folder)), SamplerRef(str(folder))


def read(folder: Path) -> Weights:
    """Read saved weights."""
    saved = json.loads((folder / "bigrams.json").read_text())
    return {int(a): {int(b): w for b, w in row.items()} for a, row in saved.items()}


def logprob(weights: Weights, before: int, token: int) -> float:
    """Log-probability (nats) of a token after another one."""
    row = weights.get(before, {})
    total = math.fsum(math.exp(w) for w in row.values()) + VOCABULARY - len(row)
    return row.get(token, 0.0) - math.log(total)


@dataclass(frozen=True)
class Done:
    """A finished step."""

    value: StepResult

    def result(self) -> StepResult:
        return self.value


class BigramSession:
    """Takes each step inside `submit`."""

    def __init__(self, weights: Weights, identity: EngineIdentity, boost: float) -> None:
        self.weights, self.identity, self.boost = weights, identity, boost
        self.tip: Checkpoint | None = None

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> Done:
        terms = [
            (before, target, weight)
            for datum in batch
            for before, target, weight in zip(datum.tokens, datum.targets, datum.weights, strict=True)
            if weight
        ]
        value = math.fsum(-logprob(self.weights, a, b) * weight for a, b, weight in terms)
        for before, target, weight in terms:
            row = self.weights.setdefault(before, {})
            slope = 1 - math.exp(logprob(self.weights, before, target))
            row[target] = row.get(target, 0.0) + self.boost * adam.learning_rate * weight * slope
        self.tip = None
        return Done(StepResult(loss=value, grad_norm=None, tokens=sum(len(d.tokens) for d in batch)))

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        self.save_weights_for_sampler(folder, step=step)
        digest = jsonio.file_digest(folder / "bigrams.json")
        self.tip = Checkpoint(self.identity, step, digest, StateRef(str(folder)), SamplerRef(str(folder)))
        return self.tip

    def save_weights_for_sampler(
        self, folder: Path, *, step: int, label: SaveLabel | None = None
    ) -> SamplerRef:
        folder.mkdir(parents=True, exist_ok=True)
        jsonio.write_json(folder / "bigrams.json", self.weights)
        return SamplerRef(str(folder))

    def close(self) -> None: ...


class BigramSampler:
    """Scores and generates from weights in memory."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def score(self, prompts: Rows, choices: Rows, *, progress: Report | None = None) -> ChoiceScores:
        rows = [tuple(sum(self.logprobs([[p[-1], *c]])[0]) for c in choices) for p in prompts]
        return ChoiceScores(tuple(rows), exact=True)

    def logprobs(self, sequences: Rows) -> list[list[float]]:
        pairs = map(pairwise, sequences)
        return [[logprob(self.weights, a, b) for a, b in row] for row in pairs]

    def generate(
        self, prompts: Rows, params: GenerateParams, *, progress: Report | None = None
    ) -> list[Generation]:
        return [self._completed(prompt[-1], params) for prompt in prompts]

    def close(self) -> None: ...

    def _completed(self, token: int, params: GenerateParams) -> Generation:
        tokens: list[int] = []
        while len(tokens) < params.max_tokens:
            row = self.weights.get(token, {})
            token = max(row, key=row.__getitem__, default=0)
            if token in params.stop_tokens:
                return Generation(tuple(tokens), (), "stop")
            tokens.append(token)
        return Generation(tuple(tokens), (), "length")
