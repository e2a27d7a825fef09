"""What the Tinker server computes, with Understudy's local engine: training and sampling."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.engines import (
    CROSS_ENTROPY,
    AdamParams,
    Datum,
    GenerateParams,
    Generation,
    LoraSpec,
    Loss,
    SamplerRef,
    StateRef,
    StepResult,
)
from core.engines.local import LocalEngine
from core.engines.local.model import read_adapter
from core.engines.local.sampler import LocalSampler
from core.engines.local.session import LocalSession
from tests.servers.tinker_proto import Answer, Forwarded, Said

# Logits held at once: 256 positions of 49,152 words are 50 MB in fp32.
_AT_ONCE = 256
# What the protocol puts where a top-k row has no value.
_NO_TOKEN, _NO_LOGPROB = 0, -99999.0


_LOADING = threading.Lock()
"""transformers builds models on a device that is set for the whole process: two at once spoil each other."""


class Refused(ValueError):
    """A request that this model cannot do, by the user's fault; the message says why."""


@dataclass(frozen=True, slots=True)
class Base:
    """What there is to know of the base model without loading it."""

    vocabulary: int
    context: int
    eos: tuple[int, ...]
    architecture: str

    @classmethod
    def read(cls, folder: Path) -> Base:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        made = folder / "generation_config.json"
        generation = json.loads(made.read_text(encoding="utf-8")) if made.exists() else {}
        eos = generation.get("eos_token_id", config.get("eos_token_id"))
        ends = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
        architecture = (config.get("architectures") or ["unknown"])[0]
        return cls(config["vocab_size"], config["max_position_embeddings"], ends, architecture)

    def check(self, tokens: Sequence[int], what: str) -> None:
        """Raises Refused for what is no token of the vocabulary, and where there are too many."""
        odd = [t for t in tokens if not 0 <= t < self.vocabulary]
        if odd:
            raise Refused(f"{what} has token {odd[0]}; the vocabulary has {self.vocabulary}")
        if len(tokens) > self.context:
            raise Refused(f"{what} has {len(tokens)} tokens; the context has {self.context}")


class Trainer:
    """One training model. Data are kept until the optimiser step, whose gradient is of their plain sum."""

    def __init__(
        self, engine: LocalEngine, lora: LoraSpec, state: Path | None, *, optimizer: bool, weighted: bool
    ) -> None:
        whole = StateRef(str(state)) if state is not None and optimizer else None
        with _LOADING:
            self._session: LocalSession = engine.open(lora, whole)
        if state is not None and not optimizer:
            read_adapter(self._session._backbone.model, state / "adapter")
        self.lora = lora
        self.step = _steps(state) if state is not None else 0
        self.pending: list[Datum] = []
        self._loss = CROSS_ENTROPY
        self._weighted = weighted

    def forward(self, data: Sequence[Datum], loss: Loss = CROSS_ENTROPY) -> Forwarded:
        """Loss and log-probabilities of the targets, without gradient."""
        rows = [self._row(datum) for datum in data]
        value = sum(_value(loss, datum, row) for datum, row in zip(data, rows, strict=True))
        return Forwarded(value, rows)

    def accumulate(self, data: Sequence[Datum], loss: Loss = CROSS_ENTROPY) -> Forwarded:
        """Forward now; backward with the optimiser step, which comes to the same."""
        if self.pending and loss != self._loss:
            raise Refused("this server adds up gradients of one loss a step")
        forwarded, self._loss = self.forward(data, loss), loss
        self.pending += data
        return forwarded

    def optimise(self, adam: AdamParams) -> tuple[StepResult, list[Datum]]:
        """Update by the gradient of all data since the last step; gives them back."""
        if not self.pending:
            raise Refused("optim_step has no gradient to apply; call forward_backward first")
        batch, self.pending = self.pending, []
        result = self._session.submit(batch, adam, step=self.step, loss=self._loss).result()
        self.step += 1
        return result, batch

    def save(self, folder: Path, *, adapter_only: bool) -> None:
        """Write the whole state, or PEFT's two files alone, into `folder`."""
        if not adapter_only:
            self._session.save(folder, step=self.step)
            return
        whole = folder / "whole"
        self._session.save(whole, step=self.step)
        for path in (whole / "adapter").iterdir():
            path.rename(folder / path.name)
        shutil.rmtree(whole)

    def _row(self, datum: Datum) -> list[float]:
        places = [i for i, weight in enumerate(datum.weights) if weight or not self._weighted]
        found = [0.0] * len(datum.tokens)
        with torch.inference_mode():
            for at, logprobs in _log_softmax(self._session._backbone, datum.tokens, places):
                wanted = torch.tensor([datum.targets[i] for i in at])
                for i, value in zip(at, logprobs.gather(1, wanted[:, None])[:, 0].tolist(), strict=True):
                    found[i] = value
        return found


def _value(loss: Loss, datum: Datum, row: Sequence[float]) -> float:
    """By torch's own operations: the engine has its terms from elsewhere."""
    now, weights = torch.tensor(row).double(), torch.tensor(datum.weights).double()
    if not loss.is_policy:
        return float(-(now * weights).sum())
    advantages = torch.tensor(datum.advantages).double() * weights
    ratio = (now - torch.tensor(datum.logprobs).double()).exp()
    clipped = ratio.clamp(loss.clip_low, loss.clip_high)
    gains = {
        "importance_sampling": ratio * advantages,
        "ppo": torch.minimum(ratio * advantages, clipped * advantages),
        "cispo": clipped * now * advantages,
    }
    return float(-gains[loss.name].sum())


def lora_of(state: Path) -> LoraSpec:
    """The adapter's settings as a saved state has them."""
    return LoraSpec(**_facts(state)["lora"])


def _steps(state: Path) -> int:
    return int(_facts(state)["step"])


def _facts(state: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((state / "state.json").read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request for samples asks."""

    prompt: tuple[int, ...]
    samples: int
    params: GenerateParams
    stop_strings: tuple[str, ...] = ()
    prompt_logprobs: bool = False
    last_n: int | None = None
    top_prompt: int = 0
    top_said: int = 0
    targets: tuple[tuple[int, int, int], ...] | None = None
    """(row, column, token id) of each cell, in the order it came; row i is scored at place i + 1."""
    target_shape: tuple[int, ...] = ()
    target_sparse: tuple[list[int], list[int]] | None = None


class Speaker:
    """Samples from one set of weights."""

    def __init__(self, engine: LocalEngine, adapter: Path | None) -> None:
        with _LOADING:
            self._sampler: LocalSampler = engine.sampler(SamplerRef(str(adapter)) if adapter else None)
        self._folder = engine.local_model.folder
        self._tokenizer: Any = None

    def answer(self, wishes: Sequence[Wish]) -> list[Answer]:
        """Answers to wishes with the same `params`; more than one only where these are greedy, since a
        row's random numbers come from its place."""
        rows = [wish.prompt for wish in wishes for _ in range(wish.samples)]
        found = iter(self._sampler.generate(rows, wishes[0].params))
        answers = []
        for wish in wishes:
            answer = Answer([self._say(wish, i, next(found)) for i in range(wish.samples)])
            with torch.inference_mode():
                self._score(wish, answer)
            answers.append(answer)
        return answers

    def _score(self, wish: Wish, answer: Answer) -> None:
        """One pass over the prompt for all that is asked about it."""
        prompt, last = wish.prompt, len(wish.prompt) - 1
        scored = set(range(last - (wish.last_n or last), last)) if wish.prompt_logprobs else set()
        top = scored or (set(range(last)) if wish.top_prompt else set())
        named: dict[int, list[tuple[int, int]]] = {}
        for cell, (row, _, token) in enumerate(wish.targets or ()):
            if token >= 0:
                named.setdefault(row, []).append((cell, token))
        logprobs = [float("nan")] * len(prompt)
        tops = _empty_top(len(prompt), wish.top_prompt) if wish.top_prompt else None
        targets = [0.0] * len(wish.targets or ())
        for at, found in _log_softmax(self._sampler._backbone, prompt, sorted(scored | top | set(named))):
            for row, values in zip(at, found, strict=True):
                if row in scored:
                    logprobs[row + 1] = float(values[prompt[row + 1]])
                if row in top and tops is not None:
                    _fill_top(tops, row + 1, values)
                for cell, token in named.get(row, ()):
                    targets[cell] = float(values[token])
        answer.prompt_logprobs = logprobs if wish.prompt_logprobs else None
        answer.top_prompt = tops
        if wish.targets is not None:
            answer.targets, answer.target_shape = targets, list(wish.target_shape)
            answer.target_sparse = wish.target_sparse

    def _say(self, wish: Wish, index: int, found: Generation) -> Said:
        tokens, logprobs, finish = list(found.tokens), list(found.logprobs), str(found.finish)
        if finish == "stop":
            token = self._stop_token(wish, index, len(tokens))
            logprobs.append(self._sampler.logprobs([(*wish.prompt, *tokens, token)])[0][-1])
            tokens.append(token)
        cut = self._cut(tokens, wish.stop_strings)
        if cut < len(tokens):
            tokens, logprobs, finish = tokens[:cut], logprobs[:cut], "stop"
        return Said(tokens, logprobs, finish, self._top(wish, tokens))

    def _stop_token(self, wish: Wish, index: int, at: int) -> int:
        """Which token ended a sequence: the engine leaves it out, the protocol has it."""
        stops, params = wish.params.stop_tokens, wish.params
        if len(stops) == 1:
            return stops[0]
        through = GenerateParams(params.max_tokens, params.temperature, params.seed)
        return self._sampler.generate([wish.prompt] * wish.samples, through)[index].tokens[at]

    def _cut(self, tokens: list[int], stops: tuple[str, ...]) -> int:
        """How many tokens there are up to the one that completes a stop string."""
        if not stops:
            return len(tokens)
        for end in range(1, len(tokens) + 1):
            text = self._words().decode(tokens[:end])
            if any(stop in text for stop in stops):
                return end
        return len(tokens)

    def _words(self) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(self._folder)
        return self._tokenizer

    def _top(self, wish: Wish, tokens: list[int]) -> tuple[np.ndarray, np.ndarray] | None:
        if not wish.top_said or not tokens:
            return None
        whole, first = (*wish.prompt, *tokens), len(wish.prompt) - 1
        top = _empty_top(len(tokens), wish.top_said)
        with torch.inference_mode():
            places = list(range(first, first + len(tokens)))
            for at, found in _log_softmax(self._sampler._backbone, whole[:-1], places):
                for row, values in zip(at, found, strict=True):
                    _fill_top(top, row - first, values)
        return top


def finish_of(eos: tuple[int, ...], stop: object) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Stop tokens and stop strings that the protocol's `stop` means. None: the model's own end."""
    if stop is None:
        return eos, ()
    if isinstance(stop, str):
        return (), (stop,)
    if isinstance(stop, list) and all(isinstance(s, str) for s in stop):
        return (), tuple(stop)
    if isinstance(stop, list) and all(isinstance(s, int) for s in stop):
        return tuple(stop), ()
    raise Refused(f"stop is {stop!r}; give a string, strings or token ids")


def _log_softmax(
    backbone: Any, tokens: Sequence[int], places: Sequence[int]
) -> Iterator[tuple[list[int], Tensor]]:
    """(places, (places, vocabulary) log-probabilities of the token that follows), in parts."""
    if not places:
        return
    features = backbone.features([tuple(tokens[: max(places) + 1])])
    for start in range(0, len(places), _AT_ONCE):
        at = list(places[start : start + _AT_ONCE])
        yield at, backbone.logits(features[torch.tensor(at)]).log_softmax(1)


def _empty_top(rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((rows, k), _NO_TOKEN, np.int32), np.full((rows, k), _NO_LOGPROB, np.float32)


def _fill_top(top: tuple[np.ndarray, np.ndarray], row: int, logprobs: Tensor) -> None:
    values, ids = logprobs.topk(top[0].shape[1])
    top[0][row], top[1][row] = ids.numpy(), values.numpy()
