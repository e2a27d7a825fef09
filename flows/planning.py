"""What a run would do, said before anything is done: no Prefect, no torch, nothing written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from core.completions.journal import Journal
from core.config.loading import ResolvedConfig
from core.data.writing import scan_examples
from core.errors import MissingInputError, UnderstudyError
from core.evaluation.selection import select
from core.optional import Part, named
from core.pipeline import seeds
from core.pipeline.estimate import estimate
from core.pipeline.naming import other_config, refusal
from core.pipeline.pricing import prices
from core.pipeline.reasons import Reasons
from core.pipeline.stages import Pipeline
from core.prompts import Message
from core.records import SplitName
from core.stages import Stage
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import RunView
from core.student.plan import PlannedSegment
from flows.comparing import check_label_only_run, compared
from flows.exporting import bundled, export_checkpoint
from flows.hardness import looked_into
from flows.switches import NAMES, Switches
from flows.walking import Trained, metrics_of, stops


def describe_plan(resolved: ResolvedConfig, switches: Switches) -> str:
    """The plan of a run as text: each stage, then the exact first prompts."""
    planner = Planner(resolved, switches)
    planner.go()
    planner.lines += [
        (
            f"seed {seed}",
            f"{seeds.name_of(resolved.run_name, seed)}, another run: the same from train on",
        )
        for seed in seeds.others(resolved.config)
    ]
    head = [f"run {resolved.run_name} under {planner.store.backend.url}", ""]
    head += needed_keys(planner.pipeline)
    if differing := other_config(planner.view, resolved):
        head += [f"`understudy run` would stop here: {refusal(planner.view, differing)}", ""]
    return "\n".join([*head, *planner.stages(), "", *planner.estimated(), *planner.first_prompts()])


def needed_keys(pipeline: Pipeline) -> list[str]:
    """Lines about keys that the run will need and that are not there; none where all are."""
    missing = [f"the run will need a key: {sentence}" for sentence in pipeline.missing_keys()]
    return [*missing, ""] if missing else []


class NotMadeYet(Exception):
    """A stage has to run before what follows it can be planned; holds its name."""


class Planner:
    """Walks the pipeline as far as its inputs exist."""

    def __init__(self, resolved: ResolvedConfig, switches: Switches) -> None:
        self.config, self.switches = resolved.config, switches
        self.store = Store.at(resolved.config.run.root)
        self.view = RunView(self.store, resolved.run_name)
        self.pipeline = Pipeline(resolved.config)
        self.lines: list[tuple[str, str]] = []
        self.parts: Manifest | None = None
        self.encoded: Manifest | None = None
        self.labelled: dict[SplitName, Manifest] = {}
        self._reasons = Reasons(self.view)

    def go(self) -> None:
        """Fill `lines`: of each stage what would become of it, as far as can be said now."""
        try:
            self.walk()
        except NotMadeYet as e:
            self.waiting(str(e))
        else:
            self.lines += [(name, "off") for name in NAMES[NAMES.index(self.switches.last) + 1 :]]

    def stages(self) -> list[str]:
        """`lines` as text."""
        width = max(len(slot) for slot, _ in self.lines)
        return [f"{slot:<{width}}  {what}" for slot, what in self.lines]

    def walk(self) -> None:
        """One line a stage: reuse, or run and why. Raises NotMadeYet where it cannot go on."""
        pipeline, last = self.pipeline, self.switches.last
        pipeline.preflight(online=False)
        if last == "export":
            check_label_only_run(self)
        self.parts = parts = self._one("split", pipeline.split)
        if last == "split":
            return
        answers = self._answers(parts)
        if last == "sample":
            return
        kept = self._one("reject", lambda: pipeline.reject(parts, answers))
        if last == "reject":
            return
        self.encoded = encoded = self._one("encode", lambda: pipeline.encode(kept))
        if last == "encode":
            return
        trained = self._training(parts, encoded)
        if last != "export":
            return
        check_label_only_run(self, parts)
        self._need_labelled()
        chosen = select(trained.curve, self.config.evaluation.metric)
        others = compared(self, parts, trained, self.labelled)
        exported = export_checkpoint(self, parts, trained, chosen.step, others=others)
        looked_into(self, parts, kept, self.labelled, exported.modes[0])
        home = None
        if exported.checkpoint is not None and pipeline.capabilities.remote:
            home = self.do_built(pipeline.measuring.adapter(parts, exported.checkpoint), "")
        self.do_built(bundled(self, parts, kept, exported, home, encoded=encoded), "")

    def _answers(self, parts: Manifest) -> Manifest:
        """The teacher's answers to train; those to each split that it labels besides are in `labelled`.

        These wait for the split alone, and only the export waits for them.
        """
        try:
            return self._one("sample", lambda: self.pipeline.sample(parts))
        finally:
            for name in self.config.teacher.label_splits:
                with contextlib.suppress(NotMadeYet):
                    self.labelled[name] = self._one(
                        f"sample/{name}", partial(self.pipeline.sample, parts, name)
                    )

    def _need_labelled(self) -> None:
        """The teacher stands in the report's table."""
        for name in self.config.teacher.label_splits:
            if name not in self.labelled:
                raise NotMadeYet(f"sample/{name}")

    def estimated(self) -> list[str]:
        """What a student on a server will take in all, whatever of it is there already."""
        if not self.pipeline.capabilities.metered:
            return []
        if self.parts is None:
            return ["(what the student will take can be said once the data is split: --only split)"]
        return [*estimate(self.pipeline, self.store, self.parts, self.encoded).lines(), ""]

    def _price(self) -> list[str]:
        """What asking the teacher will take, where it is a live one."""
        if self.parts is None or self.config.teacher.kind != "openai":
            return []
        with Journal.open(self.store, self.view.name, heals=False) as journal:
            return [*prices(self.pipeline, self.store, self.parts, journal), ""]

    def do_built(self, stage: Stage, file: str) -> Manifest:
        """A line for a stage, and its manifest. Raises NotMadeYet where it has none."""
        return self._one(stage.slot, lambda: stage)

    def do_without(self, build: Callable[[tuple[Part, ...]], Stage], file: str) -> Manifest:
        """As `do_built`: what a run would try first."""
        return self.do_built(build(()), file)

    @contextlib.contextmanager
    def optional(self, part: Part, detail: str = "") -> Iterator[None]:
        """A line for a part that a run would leave out."""
        try:
            yield
        except UnderstudyError as e:
            self.lines.append(("(left out)", f"{named(part, detail)}: {e}"))

    def leave_out(self, part: Part, error: Exception) -> None:
        """A line for a part that is known to be impossible."""
        self.lines.append(("(left out)", f"{part}: {error}"))

    def reads_test(self, parts: Manifest, frozen: Sequence[Manifest], what: str) -> None:
        """A plan reads nothing."""

    def waiting(self, on: str) -> None:
        """A line for each stage that nothing can be said of yet."""
        seen = {slot.partition("/")[0] for slot, _ in self.lines}
        for name in NAMES:
            if name not in seen:
                self.lines.append((name, f"waits for {on}" if self.switches.on(name) else "off"))

    def first_prompts(self) -> list[str]:
        """What the teacher and the student are shown of the first training text."""
        if self.parts is None:
            return ["(the first prompt can be shown once the data is split)"]
        example = next(iter(scan_examples(self.store.file(self.parts, "train.csv"))))
        bench = self.pipeline.bench
        teacher = bench.prompts.teacher_messages(example.text, bench.rulebook.text)
        student = bench.student_messages(example.text)
        return [
            *self._price(),
            f"first prompt of the teacher ({self.config.teacher.kind}), text {example.id}:",
            *_shown(teacher),
            "",
            "first prompt of the student:",
            *_shown(student),
        ]

    def _training(self, parts: Manifest, encoded: Manifest) -> Trained:
        """Every segment and its evaluation. Raises NotMadeYet where one of them is not made."""
        data = self.store.folder(encoded)
        steps = self.pipeline.plan(data)
        trained = Trained({}, {}, [])
        parent: Manifest | None = None
        segments = self.pipeline.segments(steps)
        stopping = self.config.evaluation.early_stopping
        measures = self.switches.last != "train" or stopping is not None
        missing = self._evaluation(parts, trained, 0) if measures else None
        for i, part in enumerate(segments):
            try:
                parent = self.do_built(self.pipeline.train(part, steps, parent, data), "")
            except NotMadeYet:
                self._after(segments[i:])
                raise
            trained.checkpoints[part.stop] = parent
            if part.evaluate and measures:
                missing = self._evaluation(parts, trained, part.stop) or missing
                if not missing and stops(self, trained, stopping):
                    break
        if missing:
            raise NotMadeYet(missing)
        return trained

    def _after(self, segments: Sequence[PlannedSegment]) -> None:
        """What waits for a segment that is not made: those that follow, and their evaluations."""
        stops = [part.stop for part in segments[1:]]
        if stops and self.switches.on("train"):
            self.lines.append((_span("train", stops), f"waits for train/{segments[0].stop}"))
        stops = [part.stop for part in segments if part.evaluate]
        if stops and self.switches.on("evaluate"):
            whom = f"train/{stops[0]}" if len(stops) == 1 else "its training segment, each"
            self.lines.append((_span("evaluate", stops), f"waits for {whom}"))

    def _evaluation(self, parts: Manifest, trained: Trained, step: int) -> str | None:
        """Add an evaluation to `trained`; its name where it is not made, which training does not mind."""
        stage = self.pipeline.measuring.evaluate(parts, trained.checkpoints.get(step), step)
        try:
            manifest = self.do_built(stage, "")
        except NotMadeYet as e:
            return str(e)
        trained.add(step, manifest, metrics_of(self, manifest))
        return None

    def _one(self, slot: str, build: Callable[[], Stage]) -> Manifest:
        name = slot.partition("/")[0]
        if not self.switches.on(name):
            return self._off(slot)
        stage = build()
        sound = self.store.sound(stage.name, stage.key)
        if sound is not None and name not in self.switches.refresh:
            self.lines.append((slot, f"reuse (made {sound.created_at})"))
            return sound
        self.lines.append((slot, self.why(stage)))
        raise NotMadeYet(slot)

    def why(self, stage: Stage) -> str:
        """What there is to say of a stage that is not there, or is to be made again."""
        asked = stage.name in self.switches.refresh
        return f"run: {'asked for by --refresh' if asked else self._reasons.why(stage)}"

    def _off(self, slot: str) -> Manifest:
        try:
            manifest = self.view.earlier(slot, file=f"result of {slot}")
        except MissingInputError as e:
            self.lines.append((slot, f"off, but {e}"))
            raise NotMadeYet(slot) from e
        self.lines.append((slot, f"off: takes what was made {manifest.created_at}"))
        return manifest


def _span(stage: str, stops: Sequence[int]) -> str:
    return f"{stage}/{stops[0]}" if len(stops) == 1 else f"{stage}/{stops[0]} to {stage}/{stops[-1]}"


def _shown(messages: tuple[Message, ...]) -> list[str]:
    return [
        f"  [{m.role}] {line}" if i == 0 else f"    {line}"
        for m in messages
        for i, line in enumerate(m.content.splitlines())
    ]
