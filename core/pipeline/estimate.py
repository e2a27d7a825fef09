"""The cost of a student on a training server, counted before anything is spent on it.

The estimate walks the pipeline like a plan. Training is counted exactly once the accepted samples are known:
the plan of steps names the samples of each. Scores are counted by their prompts. The length of an answer is
not known before it is generated; it is assumed to be the mean length of the training answers. Early stopping
lowers the cost, repeated requests raise it.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow.parquet as pq

from core.config import Config
from core.cost import TrainingPrice
from core.data.stage import FILE as SPLIT_SUMMARY
from core.data.stage import SplitSummary, split
from core.engines import choice_plan
from core.evaluation.metrics import Metrics, lower_is_better
from core.evaluation.student_scores import (
    METRICS_FILE,
    ExplainSettings,
    MeasureSettings,
    evaluate,
    explain,
    export,
)
from core.export.ledger import CostEstimate, EstimatedPart
from core.pipeline.plan_runner import NotBuiltYet, PlanRunner, Promised
from core.pipeline.runners import PendingStage, Runner
from core.pipeline.scorers import BASELINES
from core.pipeline.switches import Switches
from core.records import SplitName, read_examples, scan_examples
from core.rejection.stage import reject
from core.report import plural
from core.stage import StageCall
from core.store import Manifest, RunView
from core.student.encode_stage import DATA_FILE, EncodedSet, encode
from core.student.encoding import Encoder
from core.student.tokenizer import TextTokens
from core.student.train_stage import plan_segments, total_steps, train
from core.teacher.stage import sample

log = logging.getLogger(__name__)

FILE = "cost_estimate.json"
ASSUMED = 80
"""Tokens of a reasoning while none is known."""
_LEARNED_FROM = (split.name, sample.name, reject.name, encode.name)
"""Stages before training, whose objects are read if they exist. All later ones are counted as if none did."""
_Content = TypeVar("_Content")


def estimate(pipeline: Callable[[Runner], Any], run: Runner) -> CostEstimate:
    """Count the tokens of a pipeline from training on, with the objects that `run` has by now.

    The split has to exist. Raises UnderstudyError where a plan would.
    """
    counting = EstimateRunner(run)
    pipeline(counting)
    return counting.total()


def note_estimate(view: RunView, found: CostEstimate) -> None:
    """Write cost_estimate.json into the run's folder, and log the estimate."""
    view.write_json(FILE, found.to_json())
    for line in (found.sentence, *found.notes):
        log.info("%s", line)


class EstimateRunner(PlanRunner):
    """Counts the tokens of each call that trains or scores on a server.

    Where the pipeline reads an object that does not exist yet, the runner assumes its content: all texts of
    train are learned, and each evaluation is better than the one before, so that training does not stop
    early and a trained checkpoint is exported.
    """

    def __init__(self, run: Runner) -> None:
        super().__init__(run.resolved, Switches())
        self.context = run.context
        self._existing = {
            slot: found for slot in _LEARNED_FROM if (found := run.used.get(slot)) and run.exists(found)
        }
        self._encoder = self.context.encoder()
        self._texts: dict[SplitName, Sequence[TextTokens]] = {}
        self._parts: dict[str, Counter[str]] = defaultdict(Counter)
        """Calls and tokens of each part, under the names of EstimatedPart's fields."""
        self._scored: list[tuple[MeasureSettings, Counter[str]]] = []
        self._steps = self._evaluations = 0
        self._lengths, self._answer = self._training_lengths()

    def do(self, call: StageCall, *, refresh: bool = False) -> Manifest:
        """Count the call; returns a promise of its object, or an object that training starts from."""
        manifest = self._existing.get(call.slot)
        if manifest is None:
            manifest = Promised.of(call, call.slot)
            self._count(call)
        self.used[call.slot] = manifest
        return manifest

    def submit(self, call: StageCall, *, overlap: bool) -> PendingStage:
        manifest = self.do(call)
        return PendingStage(lambda: manifest)  # what a promised one contains is assumed

    def read(self, manifest: Manifest, file: str, reader: Callable[[Path], _Content]) -> _Content:
        """The content of a file, or what is assumed of one that does not exist yet."""
        if self.exists(manifest):
            return super().read(manifest, file, reader)
        assumed: Any
        if file == DATA_FILE:
            rows = read_examples(self._split_file("train"))
            assumed = EncodedSet([row.label for row in rows], [""] * len(rows))
        elif file == METRICS_FILE:
            self._evaluations += 1
            metric = self.config.evaluation.metric
            value = float(-self._evaluations if lower_is_better(metric) else self._evaluations)
            assumed = Metrics({metric: value})
        elif file == BASELINES:
            assumed = {}
        else:
            raise NotBuiltYet(manifest.key)
        return cast(_Content, assumed)

    def total(self) -> CostEstimate:
        """The sum of all calls, with US dollars if there is a price, and what it assumes."""
        price, notes = self.context.engine.price, []
        if price is None:
            notes.append(_unpriced(self.config))
        if encode.name not in self._existing:
            notes.append(
                "the samples are not encoded yet: the estimate assumes that every text of train is learned"
            )
            if self._encoder.target != "label_only":
                notes.append(f"and that each reasoning has {ASSUMED} tokens")
        if self.config.evaluation.early_stopping is not None:
            notes.append("early stopping would lower it")
        whole = sum(self._parts.values(), start=Counter[str]())
        tokens = {kind: whole[kind] for kind in ("trained_tokens", "prefilled_tokens", "sampled_tokens")}
        return CostEstimate(
            model=self.config.student.model,
            steps=self._steps,
            **tokens,
            usd=None if price is None else round(_dollars(price, **tokens), 6),
            prices_usd_per_million=price,
            parts=tuple(EstimatedPart(name=name, **counts) for name, counts in self._parts.items()),
            notes=tuple(notes),
        )

    def _count(self, call: StageCall) -> None:
        name, settings, found = call.name, call.settings, Counter[str]()
        if call.stage is train:
            steps = call.given["steps"]
            self._steps += len(steps)
            found["trained_tokens"] = sum(self._lengths[row] for step in steps for row in step.rows)
        elif call.stage is explain:
            found = self._reasoning(self._encoder, settings, settings.rows)
        elif call.stage in (evaluate, export):
            encoder = self.context.encoder_of(settings.prompt, settings.label_only)
            if call.stage is export:
                name = call.label.replace(f" on {settings.split}", "")  # all splits are one part
            if call.stage is evaluate or "scored" not in call.inputs:
                found += self._scores(encoder, settings)
            if encoder.target == "label_first" and settings.reasoning_rows:
                found += self._reasoning(encoder, settings, settings.reasoning_rows)
        if any(found.values()):
            self._parts[name] += found + Counter(calls=1)

    def _scores(self, encoder: Encoder, settings: MeasureSettings) -> Counter[str]:
        """One request for each row and head of the labels' tokens, each with a token to sample."""
        for earlier, found in self._scored:
            if earlier == settings:
                return found
        heads = choice_plan([choice for forms in encoder.choices().values() for choice in forms]).heads
        generated = self._answer if encoder.target == "reason_first" else 0
        prompts = self._prompts(settings.split, encoder, encoder.label_tokens + generated)
        prompts = prompts[: settings.max_examples or None]
        n = len(prompts)
        prefilled = sum(prompts) * len(heads) + n * sum(len(head) + 1 for head in heads)
        sampled = n * len(heads)
        if generated:
            prefilled += n * len(heads) * generated + sum(prompts)
            sampled += n * generated
        found = Counter(prefilled_tokens=prefilled, sampled_tokens=sampled)
        self._scored.append((settings, found))
        return found

    def _reasoning(
        self, encoder: Encoder, settings: MeasureSettings | ExplainSettings, rows: int
    ) -> Counter[str]:
        prompts = self._prompts(settings.split, encoder, encoder.label_tokens)[:rows]
        longest = settings.max_new_tokens + encoder.label_tokens
        sampled = len(prompts) * min(self._answer, longest)
        return Counter(prefilled_tokens=sum(prompts), sampled_tokens=sampled)

    def _training_lengths(self) -> tuple[list[int], int]:
        """Tokens of each training example, and the mean length of their completions."""
        encoded = self._existing.get(encode.name)
        if encoded is not None:
            table = pq.read_table(self.store.file(encoded, DATA_FILE), columns=["tokens", "weights"])
            tokens, weights = (table.column(name).to_pylist() for name in table.column_names)
            answer = round(sum(w > 0 for each in weights for w in each) / len(weights))
            return [len(each) - 1 for each in tokens], answer
        answer = self._encoder.label_tokens + (0 if self._encoder.target == "label_only" else ASSUMED)
        return [n + answer - 1 for n in self._prompts("train", self._encoder, answer)], answer

    def _prompts(self, split: SplitName, encoder: Encoder, reserve: int) -> list[int]:
        if split not in self._texts:
            rows = read_examples(self._split_file(split))
            self._texts[split] = encoder.tokenizer.encode_texts([row.text for row in rows])
        room = encoder.max_length - len(encoder.frame) - reserve
        return [len(encoder.frame) + min(len(text.ids), max(room, 0)) for text in self._texts[split]]

    def _split_file(self, name: SplitName) -> Path:
        return self.store.file(self._existing[split.name], f"{name}.csv")


def _unpriced(config: Config) -> str:
    model = config.student.model
    return f"no price of {model} is known (student.engine.prices): tokens are counted, money is not"


def _dollars(price: TrainingPrice, trained_tokens: int, prefilled_tokens: int, sampled_tokens: int) -> float:
    prefilled = prefilled_tokens * price.prefill
    return (trained_tokens * price.train + prefilled + sampled_tokens * price.sample) / 1_000_000


def forecast_reinforcement(run: Runner, parts: Manifest) -> Iterator[str]:
    """The steps, answers and tokens of reinforcement, and on a server their price, in lines.

    Prompts are counted as in the first 200 texts of train, answers at their longest; an early end costs less.
    """
    config, of = run.config, run.config.reinforce
    sizes = SplitSummary.read(run.store.file(parts, SPLIT_SUMMARY)).used_split_summary
    texts, val_texts = (sizes[name].count for name in ("train", "val"))
    steps = total_steps(of, texts)
    asked = steps * of.batch_size * of.group_size
    longest, updates = of.max_new_tokens, plural(of.substeps, "update")
    yield (
        f"reinforce: {steps:,} steps of {of.batch_size} texts, {of.group_size} answers each: {asked:,} "
        f"answers of up to {longest} tokens, {updates} a step"
    )
    first = islice(scan_examples(run.store.file(parts, "train.csv")), 200)
    prompts = run.context.encoder().prompts([e.text for e in first], longest)
    lengths = [len(each.tokens) for each in prompts]
    prompt = round(sum(lengths) / max(len(lengths), 1))

    evaluations = sum(part.evaluate for part in plan_segments(steps, of.interval, of.save_every)) + 1
    val = min(config.evaluation.max_examples or val_texts, val_texts)
    rewarded = min(of.reward_rows, val_texts)
    reasons = config.student.target == "reason_first"
    trained = asked * (prompt + longest) * of.substeps
    metered = run.context.capabilities.metered
    # A metered engine bills a prompt once for all answers of its group.
    prefilled = (steps * of.batch_size if metered else asked) * prompt
    prefilled += trained // of.substeps if of.kl else 0
    prefilled += evaluations * (val * (2 if reasons else 1) + rewarded) * prompt
    sampled = asked * longest + evaluations * rewarded * longest
    sampled += evaluations * val * config.evaluation.max_new_tokens if reasons else 0
    yield (
        f"at most {trained:,} tokens trained, {sampled:,} sampled, {prefilled:,} prompt tokens; on val "
        f"{evaluations} evaluations of {val:,} texts and {rewarded:,} rewarded answers"
    )
    if not metered:
        return
    price = run.context.engine.price
    if price is None:
        yield _unpriced(config)
    else:
        usd = _dollars(price, trained, prefilled, sampled)
        yield f"at most about US$ {usd:.2f}, without the final evaluation of the other splits"
