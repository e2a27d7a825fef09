"""What reinforcement begins with: the student that a run published, or the base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.config import Config
from core.config.writing import differences
from core.errors import MissingInputError, UserError
from core.pipeline.context import RunContext
from core.pipeline.naming import run_config
from core.pipeline.phases import RL
from core.results import RL_SUMMARY
from core.store import pointers
from core.store.manifest import Manifest
from core.store.runs import FOLDER, RunView

BASE = "base"
SETTINGS = "reinforce.json"
_LIKE = ("target", "rulebook", "chat_template_args")
"""Settings of the student's prompt and answer: with others it would be asked what it never learnt."""


@dataclass(frozen=True, slots=True)
class Start:
    """A run's chosen checkpoint; without one the base model, which that run may have chosen itself."""

    run: str | None
    step: int
    checkpoint: Manifest | None

    def __str__(self) -> str:
        if self.checkpoint is None:
            return "the base model" + (f", which run {self.run} chose before any student" if self.run else "")
        return f"the student of run {self.run}, step {self.step}"

    def to_json(self) -> dict[str, Any]:
        """What is written down of it."""
        digest = None if self.checkpoint is None else self.checkpoint.digest
        return {"run": self.run, "step": self.step, "checkpoint_digest": digest}


def find(view: RunView, config: Config, bench: RunContext, parts: Manifest, source: str | None) -> Start:
    """The start that `source` names: None for the run's own student, latest, a run's name, or base.

    Raises MissingInputError where it is not there, UserError where this config cannot go on from it.
    """
    if source == BASE:
        return Start(None, 0, None)
    name = source or view.name
    pointer = pointers.read(view.store, name)
    if pointer is None:
        raise MissingInputError(
            f"there is no student of run {name}: {view.store.where(f'model/{name}.json')} is missing; run "
            "`understudy run` with publish on first, or begin with the base model: --from base"
        )
    run = RunView(view.store, str(pointer["run_dir"]).removeprefix(f"{FOLDER}/"))
    _refuse_other(name, run, pointer, config, bench, parts)
    step = int(pointer["best_step"])
    return Start(run.name, step, _checkpoint(run, step) if step else None)


def claim(view: RunView, config: Config, start: Start, *, replace: bool) -> None:
    """Take the run's rl_phase/ for this start and these settings, and write them down.

    Raises UserError naming what differs where another reinforcement ended there, unless it may be replaced;
    what it made stays under the root, and its files of the run's folder go.
    """
    settings = {"seed": config.training_seed, **config.reinforce.model_dump(mode="json")}
    content = {"start": start.to_json(), "reinforce": settings}
    before = view.store.read_json(f"{FOLDER}/{view.name}/{RL.folder}/{SETTINGS}")
    if isinstance(before, dict) and (differing := _differing(before, content)):
        if view.read(RL_SUMMARY) is not None and not replace:
            raise UserError(
                f"{view.where(RL.folder)} is of another reinforcement: {'; '.join(differing[:8])}. Either "
                "add --replace, or give this one another run: --set run.name=... --from " + view.name
            )
        view.clear(RL.folder)
    view.write_json(f"{RL.folder}/{SETTINGS}", content)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old, new = (_flat(part) for part in (before, now))
    return [f"{k}: {old.get(k)} -> {new.get(k)}" for k in {**old, **new} if old.get(k) != new.get(k)]


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {at: value}
    return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{at}.{name}".strip(".")).items()}


def _checkpoint(run: RunView, step: int) -> Manifest:
    entry = run.stages().get(f"train/{step}")
    manifest = run.store.sound("train", entry.key) if entry else None
    if manifest is None:
        raise MissingInputError(
            f"the checkpoint of step {step}, which run {run.name} published, is missing or damaged under "
            f"{run.store.where('objects')}; run `understudy run` with its config to make it again"
        )
    return manifest


def _refuse_other(
    name: str, run: RunView, pointer: Mapping[str, Any], config: Config, bench: RunContext, parts: Manifest
) -> None:
    if pointer.get("phase") == "rl":
        raise UserError(
            f"model/{name}.json is of a student that was reinforced already; name that of its run"
        )
    for what, there, here in _compared(run, pointer, config, bench, parts):
        if there != here:
            raise UserError(
                f"the student of run {run.name} cannot be reinforced with this config: its {what} is "
                f"{there}, here it is {here}; make them alike, or begin with the base model: --from base"
            )


def _compared(
    run: RunView, pointer: Mapping[str, Any], config: Config, bench: RunContext, parts: Manifest
) -> Iterator[tuple[str, Any, Any]]:
    student, before = config.student, run_config(run).config.student
    yield "engine (student.engine)", pointer["engine"], student.engine.kind
    yield "base model", _named(before.model, pointer["base_digest"]), _named(student.model, bench.base_digest)
    if lora := differences(before.lora, student.lora):
        yield "LoRA adapter (student.lora)", "another", f"not that: {'; '.join(lora)}"
    for field in _LIKE:
        yield f"student.{field}", getattr(before, field), getattr(student, field)
    yield "student's prompts", pointer["prompts_digest"][:12], bench.prompts.student_digest[:12]
    recorded, slot = run.stages(), "split"
    record = recorded.get(slot)
    split = "missing" if record is None or record.digest is None else record.digest
    yield "split of the data (its test texts must be no train texts here)", split[:12], parts.digest[:12]


def _named(model: str, digest: str) -> str:
    return f"{model} ({digest[:12]})"
