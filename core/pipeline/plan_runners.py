"""Runners that execute no stage and write no file: a plan, and an estimate of a student's cost on a server.

Training is counted exactly once the accepted samples are known: the plan of steps names the samples of each.
Scores are counted by their prompts. The length of an answer is not known before it is generated; it is
assumed to be the mean length of the training answers. Early stopping lowers the cost, repeated requests raise
it.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow.parquet as pq

from core.config import Config, ResolvedConfig
from core.data.stage import split
from core.engines import choice_plan
from core.errors import MissingInputError, Part, UnderstudyError, named
from core.evaluation.metrics import Metrics, lower_is_better
from core.evaluation.student_scores import (
    METRICS_FILE,
    ExplainSettings,
    MeasureSettings,
    evaluate,
    explain,
    export,
)
from core.pipeline.exporting import BASELINES
from core.pipeline.runners import SWITCHES, PendingStage, Runner, Switches
from core.records import SplitName, read_examples
from core.rejection.stage import reject
from core.results import CostEstimate, EstimatedPart
from core.stage import StageCall
from core.store import Manifest, ReadOnlyRun, RunView, Store
from core.student.encode_stage import DATA_FILE, EncodedSet, encode
from core.student.encoding import Encoder
from core.student.tokenizer import TextTokens
from core.student.train_stage import SegmentWork
from core.teacher.stage import sample

Promises = dict[tuple[str, str], str]
"""By stage and key, the arm of a sweep that would build the object."""
log = logging.getLogger(__name__)
ESTIMATE_FILE = "cost_estimate.json"
_ASSUMED = 80
"""Tokens of a reasoning while none is known."""
_LEARNED_FROM = (split.name, sample.name, reject.name, encode.name)
"""Stages before training, whose objects are read if they exist. All later ones are counted as if none did."""
_Content = TypeVar("_Content")


class NotBuiltYet(Exception):
    """A stage has to run before the plan can continue; has its slot."""


class Promised(Manifest):
    """An object that a run would build; its key is the slot of the first missing object it depends on.

    Its files, digest, ingredients and summary raise NotBuiltYet.
    """

    @classmethod
    def of(cls, call: StageCall, cause: str) -> Promised:
        known: dict[str, Any] = {"stage": call.name, "key": cause}
        return cls.model_construct(**known)

    @property
    def folder(self) -> str:
        raise NotBuiltYet(self.key)

    def __getattr__(self, name: str) -> Any:
        """Called for the fields that are not set."""
        raise NotBuiltYet(self.key)


class PlanRunner(Runner):
    """Notes for each stage whether a run would reuse it, or run it and why.

    A stage whose object is missing returns a `Promised` manifest, so that the walk continues to the first
    place that reads the object's files.
    """

    executes = False

    def __init__(
        self, resolved: ResolvedConfig, switches: Switches, arm: str = "", promises: Promises | None = None
    ) -> None:
        """`promises` are the objects that earlier arms of a sweep would have built before this `arm`."""
        store = Store.at(resolved.config.run.root)
        super().__init__(resolved, switches, ReadOnlyRun(store, resolved.run_name))
        self.lines: list[tuple[str, str]] = []
        """Slots, and what would become of each."""
        self._arm, self._promises = arm, {} if promises is None else promises

    def walk(self, pipeline: Callable[[Runner], Any]) -> None:
        """Fill `lines` as far as is known now; the rest waits for the first missing object."""
        try:
            pipeline(self)
        except NotBuiltYet as e:
            seen = {slot.partition("/")[0] for slot, _ in self.lines}
            waits = {name: f"waits for {e}" if name not in self.switches.off else "off" for name in SWITCHES}
            self.lines += [(name, what) for name, what in waits.items() if name not in seen]
        else:
            self.lines += [(name, "off") for name in SWITCHES[SWITCHES.index(self.switches.last) + 1 :]]

    def do(self, call: StageCall, *, refresh: bool = False) -> Manifest:
        """Add a line about what a run would do; returns the stage's object or a promise of it."""
        manifest: Manifest = Promised.of(call, call.slot)
        missing = next((m for m in call.inputs.values() if isinstance(m, Promised)), None)
        refresh = call.name in self.switches.refresh
        if not self.switches.on(call.stage):
            try:
                manifest = self.earlier(call.slot, f"result of {call.slot}")
                line = f"off: takes what was built {manifest.created_at}"
            except MissingInputError as e:
                line = f"off, but {e}"
        elif missing is not None:
            manifest, line = Promised.of(call, missing.key), f"waits for {missing.key}"
        elif not refresh and (sound := self.store.sound(call.name, call.key)) is not None:
            manifest, line = sound, f"reuse (built {sound.created_at})"
        elif (builder := self._promises.setdefault((call.name, call.key), self._arm)) != self._arm:
            line = f"reuse, once arm {builder} has built it"
        else:
            line = f"run: {'asked for by --refresh' if refresh else self._reasons.why(call)}"
        self.used[call.slot] = manifest
        self.lines.append((call.slot, line))
        if isinstance(manifest, Promised) and call.stage.switch == "export":
            raise NotBuiltYet(call.slot)  # the stages of the export follow from each other
        return manifest

    def exists(self, manifest: Manifest) -> bool:
        return not isinstance(manifest, Promised)

    def must_build(self, call: StageCall) -> bool:
        return False

    @contextlib.contextmanager
    def optional(self, part: Part, detail: str = "") -> Iterator[None]:
        try:
            yield
        except UnderstudyError as e:
            self.lines.append(("(left out)", f"{named(part, detail)}: {e}"))

    def perform(self, action: Callable[..., Any], *arguments: Any) -> Any:
        pass

    def note_read_of_test(self, split: Manifest, frozen: Sequence[Manifest], what: str) -> None:
        pass

    def known(self, slot: str) -> Manifest | None:
        """The object of a slot, if it exists."""
        found = self.used.get(slot)
        return found if found is not None and self.exists(found) else None

    def stages(self) -> list[str]:
        """`lines` as text; steps that wait for the same object share a line."""
        groups: dict[tuple[str, str, int], list[str]] = {}
        for i, (slot, what) in enumerate(self.lines):
            stage, _, step = slot.partition("/")
            shares = what.startswith("waits for") and step.isdigit()
            groups.setdefault((stage, what, -1 if shares else i), []).append(slot)
        labels = [slots[0] if len(slots) == 1 else f"{slots[0]} to {slots[-1]}" for slots in groups.values()]
        width = max(map(len, labels))
        return [f"{label:<{width}}  {what}" for label, (_, what, _) in zip(labels, groups, strict=True)]


def estimate(pipeline: Callable[[Runner], Any], run: Runner) -> CostEstimate:
    """Count the tokens of a pipeline from training on, with the objects that `run` has by now.

    The split has to exist. Raises UnderstudyError where a plan would.
    """
    counting = EstimateRunner(run)
    pipeline(counting)
    return counting.total()


def note_estimate(view: RunView, found: CostEstimate) -> None:
    """Write cost_estimate.json into the run's folder, and log the estimate."""
    view.write_json(ESTIMATE_FILE, found.to_json())
    for line in (found.sentence, *found.notes):
        log.info("%s", line)


def read_estimate(view: RunView) -> CostEstimate | None:
    """The estimate in the run's folder; None without one."""
    found = view.read_json(ESTIMATE_FILE)
    return None if found is None else CostEstimate.from_json(found, view.where(ESTIMATE_FILE))


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
        encoded = self._existing.get(encode.name)
        if encoded is not None:
            table = pq.read_table(self.store.file(encoded, DATA_FILE), columns=["tokens", "weights"])
            tokens, weights = (table.column(name).to_pylist() for name in table.column_names)
            self._answer = round(sum(w > 0 for each in weights for w in each) / len(weights))
            """The mean length of the training answers, in tokens."""
            self._lengths = [len(each) - 1 for each in tokens]
            """Tokens of each training example."""
        else:
            reasoning = 0 if self._encoder.target == "label_only" else _ASSUMED
            self._answer = self._encoder.label_tokens + reasoning
            prompts = self._prompts("train", self._encoder, self._answer)
            self._lengths = [n + self._answer - 1 for n in prompts]

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
            notes.append(unpriced(self.config))
        if encode.name not in self._existing:
            notes.append(
                "the samples are not encoded yet: the estimate assumes that every text of train is learned"
            )
            if self._encoder.target != "label_only":
                notes.append(f"and that each reasoning has {_ASSUMED} tokens")
        if self.config.evaluation.early_stopping is not None:
            notes.append("early stopping would lower it")
        whole = sum(self._parts.values(), start=Counter[str]())
        tokens = {kind: whole[kind] for kind in ("trained_tokens", "prefilled_tokens", "sampled_tokens")}
        return CostEstimate(
            model=self.config.student.model,
            steps=self._steps,
            **tokens,
            usd=None if price is None else round(price.usd(*tokens.values()), 6),
            prices_usd_per_million=price,
            parts=tuple(EstimatedPart(name=name, **counts) for name, counts in self._parts.items()),
            notes=tuple(notes),
        )

    def _count(self, call: StageCall) -> None:
        name, settings, found = call.name, call.settings, Counter[str]()
        if isinstance(work := call.given, SegmentWork):
            self._steps += len(work.steps)
            rows = (row for step in work.steps for row in step.rows)
            found += Counter(trained_tokens=sum(self._lengths[row] for row in rows))
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

    def _prompts(self, split: SplitName, encoder: Encoder, reserve: int) -> list[int]:
        if split not in self._texts:
            rows = read_examples(self._split_file(split))
            self._texts[split] = encoder.tokenizer.encode_texts([row.text for row in rows])
        room = encoder.max_length - len(encoder.frame) - reserve
        return [len(encoder.frame) + min(len(text.ids), max(room, 0)) for text in self._texts[split]]

    def _split_file(self, name: SplitName) -> Path:
        return self.store.file(self._existing[split.name], f"{name}.csv")


def unpriced(config: Config) -> str:
    model = config.student.model
    return f"no price of {model} is known (student.engine.prices): tokens are counted, money is not"
