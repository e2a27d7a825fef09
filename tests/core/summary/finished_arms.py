"""Sweeps whose arms have finished: scores, decisions and records in a store, without any training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core import jsonio
from core.evaluation.decision import DECISION, Decision
from core.evaluation.predictions import SCORES, Predictions
from core.records import Example, write_examples
from core.results import Ledger, RunResult
from core.store import Manifest, RunView, Store
from core.store.run_view import SUMMARY
from core.summary.sweep_arms import Arm, Sweep, load_sweep
from tests.core.evaluation.scored import Row, Sample, draw, predictions

ROWS = 60


@dataclass(frozen=True)
class Quality:
    """How far an arm's probabilities tell the classes apart on val and on test; None is not exported."""

    val: float
    test: float | None = 0.3
    seed: int = 1


@dataclass(frozen=True)
class Lab:
    """A folder with a base config and a store under it."""

    folder: Path

    @property
    def store(self) -> Store:
        return Store.open(str(self.folder / "out"))

    def sweep(self, arms: Mapping[str, list[str]], *overrides: str, **more: object) -> Sweep:
        """Write the base and the sweep file, and load them."""
        base = {
            "run": {"root": str(self.folder / "out")},
            "data": {"path": "x.csv"},
            "teacher": {"answers": "a.jsonl"},
        }
        (self.folder / "base.json").write_text(json.dumps(base))
        path = self.folder / "mine.json"
        path.write_text(json.dumps({"base": str(self.folder / "base.json"), "arms": arms, **more}))
        return load_sweep(path, overrides)

    def finish(self, arm: Arm, quality: Quality, *, rows: int = ROWS, one_class: bool = False) -> RunView:
        """Record for an arm's run what an export leaves."""
        parts = {"val": draw(rows, seed=quality.seed, apart=quality.val)}
        parts["test"] = draw(rows, seed=quality.seed + 1, apart=quality.test or 0.0)
        if one_class:
            parts = {name: Sample(part.positive & False, part.probability) for name, part in parts.items()}
        view, key = RunView(self.store, arm.run), f"{arm.name}-{quality.seed}"

        def write_split(folder: Path) -> None:
            for name, part in parts.items():
                examples = [Example(f"{name}{i}", f"text {i}", int(y)) for i, y in enumerate(part.positive)]
                write_examples(folder / f"{name}.csv", examples)

        def write_decision(folder: Path) -> None:
            calibrator = dataclasses.asdict(Decision.by_definition(0.5).calibrator)
            threshold = {"value": 0.5, "reason": "for a test"}
            jsonio.write_json(folder / DECISION, {"calibrator": calibrator, "threshold": threshold})

        view.record("split", self._object("split", f"rows-{quality.seed}-{rows}", write_split), reused=True)
        for name, part in parts.items():
            if name == "val" or quality.test is not None:
                scored = zip(part.positive, part.probability, strict=True)
                of = predictions([Row(f"{name}{i}", int(y), float(p)) for i, (y, p) in enumerate(scored)])
                made = self._object("export", f"{key}-{name}", partial(_write_scores, of))
                view.record(f"export/student/{name}/reasoning", made, reused=False)
        made = self._object("decide", key, write_decision)
        view.record("decide/student/reasoning", made, reused=False)
        result = RunResult(
            run_dir=f"runs/{arm.run}",
            best_step=8,
            ledger=Ledger(usd=0.125, seconds={"train": 7.0, "export": 5.0}),
        )
        view.write_json(SUMMARY, result.to_json())
        return view

    def _object(self, stage: str, key: str, write: Callable[[Path], object]) -> Manifest:
        folder = self.store.begin(stage, key)
        write(folder)
        return self.store.commit(stage, key, folder, {}, {})


def _write_scores(scored: Predictions, folder: Path) -> None:
    scored.write(folder / SCORES)
