"""What a student on a training server will take, counted before anything is spent on it.

Training is counted exactly, once the accepted samples are known: the plan says which of them each step
sees. Scores are counted by their prompts. How long an answer gets is not known before it is generated; it
is taken to be as long as those that are learnt. Early stopping makes it less, trouble more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from core import jsonio
from core.cost import TrainingPrice
from core.data.writing import read_examples
from core.engines.sampling import choice_plan
from core.errors import PromptError
from core.pipeline.context import RunContext
from core.records import SplitName
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import RunView
from core.student import plan
from core.student.encoding import Encoder, EncodeSettings
from core.student.stage import DATA_FILE, read_set
from core.student.tokenizer import TextTokens

log = logging.getLogger(__name__)

FILE = "cost_estimate.json"
ASSUMED = 80
"""Tokens of a reasoning while none is known."""
_MILLION = 1_000_000
Kind = Literal["trained_tokens", "prefilled_tokens", "sampled_tokens"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one thing takes, in tokens."""

    name: str
    trained_tokens: int = 0
    prefilled_tokens: int = 0
    sampled_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """All parts, and US dollars where there is a price; `notes` say what was taken for granted."""

    model: str
    steps: int
    parts: Sequence[Part]
    price: TrainingPrice | None
    notes: Sequence[str] = field(default=())

    def tokens(self, kind: Kind) -> int:
        """Of all parts."""
        return sum(getattr(part, kind) for part in self.parts)

    @property
    def usd(self) -> float | None:
        """None without a price."""
        if self.price is None:
            return None
        p = self.price
        return (
            self.tokens("trained_tokens") * p.train
            + self.tokens("prefilled_tokens") * p.prefill
            + self.tokens("sampled_tokens") * p.sample
        ) / _MILLION

    def to_json(self) -> dict[str, Any]:
        """`cost_estimate.json`; money is None where there is no price, and a note says so."""
        usd = self.usd
        return {
            "model": self.model,
            "steps": self.steps,
            **{kind: self.tokens(kind) for kind in ("trained_tokens", "prefilled_tokens", "sampled_tokens")},
            "usd": None if usd is None else round(usd, 6),
            "prices_usd_per_million": None if self.price is None else self.price.model_dump(),
            "parts": [jsonio.as_row(part) for part in self.parts],
            "notes": list(self.notes),
        }

    @property
    def sentence(self) -> str:
        """All of it in one."""
        money = "an unknown sum" if self.usd is None else f"about US$ {self.usd:.4f}"
        return (
            f"the student ({self.model}) will take {money}: {self.tokens('trained_tokens'):,} tokens trained "
            f"in {self.steps:,} steps, {self.tokens('prefilled_tokens'):,} prefilled, "
            f"{self.tokens('sampled_tokens'):,} sampled"
        )

    def lines(self) -> Iterator[str]:
        """The same with its parts, for people."""
        yield self.sentence
        for part in self.parts:
            counts = {
                "trained": part.trained_tokens,
                "prefilled": part.prefilled_tokens,
                "sampled": part.sampled_tokens,
            }
            said = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
            yield f"  {part.name}: {said or 'nothing new'}"
        yield from (f"  {note}" for note in self.notes)


def estimate(context: RunContext, store: Store, split: Manifest, encoded: Manifest | None) -> Estimate:
    """Count what is to come; `encoded` are the samples, where they are known."""
    return _Counting(context, store, split, encoded).whole()


def note_estimate(view: RunView, found: Estimate) -> None:
    """Keep it in the run's folder, and say it."""
    view.write_json(FILE, found.to_json())
    log.info("%s", found.sentence)
    for note in found.notes:
        log.info("%s", note)


class _Counting:
    """Counts for one run; texts are tokenised once."""

    def __init__(self, context: RunContext, store: Store, split: Manifest, encoded: Manifest | None) -> None:
        self._config, self._bench = context.config, context
        self._file: Callable[[str], Path] = lambda name: store.file(split, name)
        self._folder = None if encoded is None else store.folder(encoded)
        self._texts: dict[SplitName, Sequence[TextTokens]] = {}
        self._encoder = self._bench.encoder()
        self._answer = 0
        """Tokens of an answer."""

    def whole(self) -> Estimate:
        """Everything, in the order of the run."""
        lengths, labels = self._examples()
        steps = plan.plan(self._config.student, self._config.training_seed, labels, [""] * len(labels))
        interval, save_every = self._config.evaluation.interval, self._config.student.save_every
        stops = plan.segments(len(steps), interval, save_every)
        trained = sum(lengths[row] for step in steps for row in step.rows)
        times = 1 + sum(part.evaluate for part in stops)
        parts = [Part("training", trained_tokens=trained), self._evaluations(times), *self._exports()]
        price, unknown = self._price()
        notes = [*unknown, *self._assumptions()]
        return Estimate(self._config.student.model, len(steps), parts, price, notes)

    def _examples(self) -> tuple[list[int], list[int]]:
        """Tokens and label of each sample; `_answer` becomes their mean completion."""
        if self._folder is not None:
            found = read_set(self._folder)
            table = pq.read_table(self._folder / DATA_FILE, columns=["tokens", "weights"])
            lengths = [len(tokens) - 1 for tokens in table["tokens"].to_pylist()]
            said = [sum(w > 0 for w in weights) for weights in table["weights"].to_pylist()]
            self._answer = round(sum(said) / len(said))
            return lengths, found.labels
        reasons = 0 if self._encoder.target == "label_only" else ASSUMED
        self._answer = self._encoder.label_tokens + reasons
        rows = read_examples(self._file("train.csv"))
        prompts = self._prompts("train", self._encoder, self._answer)
        return [length + self._answer - 1 for length in prompts], [row.label for row in rows]

    def _evaluations(self, times: int) -> Part:
        most = self._config.evaluation.max_examples
        one = self._scores("val", self._encoder, most or None)
        return Part(
            f"{times} evaluations on val", 0, times * one.prefilled_tokens, times * one.sampled_tokens
        )

    def _exports(self) -> Iterator[Part]:
        """The student in its modes, then the untrained model, then the errors that are explained."""
        config, all_of_val = self._config, self._config.evaluation.max_examples == 0
        splits: list[SplitName] = list(dict.fromkeys(["val", *config.export.splits]))
        fresh = [s for s in splits if not (s == "val" and all_of_val)]
        if config.export.reasoning:
            scored = [self._scores(s, self._encoder) for s in fresh]
            said = [self._says(s) for s in splits] if self._encoder.target == "label_first" else []
            yield _added("the student on all splits", [*scored, *said])
        same = config.export.reasoning and self._bench.label_only_is_the_same
        if config.export.label_only and not same:
            encoder = self._bench.encoder(label_only=True)
            yield _added("the student with the label-only prompt", [self._scores(s, encoder) for s in splits])
        measured: list[SplitName] = ["val", "test"] if "test" in config.export.splits else ["val"]
        again = [s for s in measured if s in fresh]
        yield _added("the untrained model", [self._scores(s, self._encoder) for s in again])
        if config.baselines.other_prompt:
            yield _added("the untrained model, other prompt", self._other_prompt(measured))
        if self._encoder.target == "label_first" and config.export.error_rows:
            yield self._says(measured[-1], config.export.error_rows, "the worst errors, explained")

    def _other_prompt(self, measured: Sequence[SplitName]) -> list[Part]:
        prompt = EncodeSettings.of(self._config.student)
        other = prompt.model_copy(update={"rulebook": not prompt.rulebook})
        try:
            encoder = self._bench.encoder_of(other, False)
        except PromptError:  # there is no such prompt, so that nobody will be asked with it
            return []
        return [self._scores(s, encoder) for s in measured]

    def _scores(self, split: SplitName, encoder: Encoder, most: int | None = None) -> Part:
        """One scoring of a split: a request for each row and head, each with a token to sample."""
        choices = [choice for forms in encoder.choices().values() for choice in forms]
        heads = choice_plan(choices).heads
        generated = self._answer if encoder.target == "reason_first" else 0
        prompts = self._prompts(split, encoder, encoder.label_tokens + generated)[:most]
        n = len(prompts)
        asked = sum(prompts) * len(heads) + n * sum(len(head) + 1 for head in heads)
        if encoder.target != "reason_first":
            return Part(split, 0, asked, n * len(heads))
        reasoned = n * len(heads) * generated
        return Part(split, 0, asked + reasoned + sum(prompts), n * (generated + len(heads)))

    def _says(self, split: SplitName, rows: int | None = None, name: str = "") -> Part:
        """Reasonings that are generated beside scores."""
        n = self._config.export.reasoning_rows if rows is None else rows
        prompts = self._prompts(split, self._encoder, self._encoder.label_tokens)[:n]
        longest = self._config.export.max_new_tokens + self._encoder.label_tokens
        return Part(name or split, 0, sum(prompts), len(prompts) * min(self._answer, longest))

    def _prompts(self, split: SplitName, encoder: Encoder, reserve: int) -> list[int]:
        """Tokens of each text's prompt."""
        if split not in self._texts:
            rows = read_examples(self._file(f"{split}.csv"))
            self._texts[split] = encoder.tokenizer.encode_texts([row.text for row in rows])
        room = encoder.max_length - len(encoder.frame) - reserve
        return [len(encoder.frame) + min(len(text.ids), max(room, 0)) for text in self._texts[split]]

    def _price(self) -> tuple[TrainingPrice | None, list[str]]:
        price = self._bench.engine.price
        if price is None:
            model = self._config.student.model
            return None, [
                f"no price of {model} is known (student.engine.prices): tokens are counted, money is not"
            ]
        return price, []

    def _assumptions(self) -> Iterator[str]:
        if self._folder is None:
            yield "the samples are not encoded yet: every text of train is taken to be learnt"
            if self._encoder.target != "label_only":
                yield f"and each reasoning to have {ASSUMED} tokens"
        if self._config.evaluation.early_stopping is not None:
            yield "early stopping would make it less"


def _added(name: str, parts: Sequence[Part]) -> Part:
    return Part(
        name,
        sum(p.trained_tokens for p in parts),
        sum(p.prefilled_tokens for p in parts),
        sum(p.sampled_tokens for p in parts),
    )
