"""What the runs' files have to say for the server to count as one that Understudy works with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.server import Running

STEPS = 4
FIRST = 2
"""Steps of the first run; the second resumes from its checkpoint."""
SAME = 1e-3
"""Nats. Both engines compute in fp32 and begin with the same function; see also core.engines.tinker."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that has to work, and what was found."""

    what: str
    found: str
    good: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step on both engines."""

    losses: tuple[float, float]
    """Before the update (nats), SkyRL's and the local engine's."""
    norms: tuple[float, float]
    """Of the gradients."""

    @property
    def apart(self) -> float:
        """Absolute for losses, relative for norms."""
        (there, here), (long, wide) = self.losses, self.norms
        return max(abs(there - here), abs(long - wide) / wide)


def findings(run: Path, server: Running, steps: Sequence[Step]) -> list[Finding]:
    """All of them, in the order of the pipeline. `run` is the folder of the run that went on."""
    return [
        *_trained(run),
        _alike(steps),
        _restored(run, server),
        *_measured(run),
        _sampled(run),
        *_exported(run),
    ]


def _trained(run: Path) -> Iterator[Finding]:
    history = _rows(run / "student_phase/train_history.jsonl")
    losses = [row["loss"] for row in history]
    yield Finding(
        "train: each step once, in order, each with a norm of its gradient",
        f"{len(history)} steps, norms {_numbers(row['grad_norm'] for row in history)}",
        [row["step"] for row in history] == list(range(STEPS))
        and all(row["grad_norm"] is not None and math.isfinite(row["loss"]) for row in history),
    )
    yield Finding("train: the loss falls", _numbers(losses), losses == sorted(losses, reverse=True))


def _alike(steps: Sequence[Step]) -> Finding:
    apart = max(step.apart for step in steps)
    return Finding(
        "train: from the same adapter, losses and norms of all steps are the local engine's",
        f"{len(steps)} steps, at most {apart:.1e} apart",
        apart < SAME,
    )


def _restored(run: Path, server: Running) -> Finding:
    stages = _json(run / "stages.json")
    reused = stages[f"train/{FIRST}"]["reused"], stages[f"train/{STEPS}"]["reused"]
    loads = server.said("Loaded training checkpoint from")
    return Finding(
        "save, restore: another process resumes from the saved state",
        f"steps 1 to {FIRST} reused: {reused[0]}, states loaded by the server: {loads}",
        reused == (True, False) and loads == 1,
    )


def _measured(run: Path) -> Iterator[Finding]:
    scored = {step: _json(run / f"student_phase/metrics_val_step_{step}.json") for step in (0, FIRST, STEPS)}
    found = {step: metrics["metrics"]["log_loss"] for step, metrics in scored.items()}
    yield Finding(
        "score: log loss on val after 0, 2 and 4 steps falls",
        _numbers(found.values()),
        found[0] > found[FIRST] > found[STEPS],
    )
    best = _json(run / "run_summary.json")["best_step"]
    least = min(found, key=found.__getitem__)
    yield Finding("select: the checkpoint with the least", f"step {best}", best == least)


def _sampled(run: Path) -> Finding:
    rows = _json(run / "student_phase/test.json")
    written = [row["raw_output"] for row in rows if row["raw_output"]]
    probable = [row["probability"] for row in rows]
    return Finding(
        "sample, score: test rows with a probability, the first with a completion",
        f"{len(rows)} rows, {len(written)} completions",
        len(written) > 0 and all(value is not None and 0 < value < 1 for value in probable),
    )


def _exported(run: Path) -> Iterator[Finding]:
    folder = run / "student_phase/adapter"
    modules = _json(folder / "adapter_config.json")["target_modules"]
    yield Finding("export: the adapter names its modules", ", ".join(modules), len(modules) == 7)
    parity = _json(folder / "parity.json")
    yield Finding(
        "export: the downloaded adapter scores as on the server",
        f"{parity['rows']} rows, at most {parity['largest']:.1e} nats apart",
        parity["checked"] and parity["left_out"] == 0 and parity["largest"] < SAME,
    )


def _numbers(values: Any) -> str:
    return " ".join("none" if value is None else f"{value:.4f}" for value in values)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
