"""What the student learnt from rewards: by steps while it trained, and by name on val."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from core.report.blocks import Block, Cell, Prose, Section, Table, cells
from core.report.inputs import Reinforced, Report
from core.report.words import number, plural, signed

_NAMES: Mapping[str, str] = {
    "label": "label right",
    "format": "in the target's form",
    "cites_rule": "cites rules that exist",
    "faithful_quote": "quotes the text truly",
    "length": "within the length",
}
_WHILE: Mapping[str, str] = {
    "reward": "reward_mean",
    "labels right": "batch_acc",
    "no label": "invalid_rate",
    "tokens": "answer_tokens",
    "drift": "kl_logprob_diff_mean",
}


def section(report: Report) -> Section | None:
    """None where nobody was rewarded."""
    of = report.reinforced
    if of is None:
        return None
    blocks: list[Block] = [Prose(_steps(of)), *_warned(of), _by_steps(report, of), _by_name(report, of)]
    return Section("reinforcement", "Learning from rewards", blocks)


def _steps(of: Reinforced) -> str:
    groups, skipped = (sum(row[name] for row in of.history) for name in ("n_groups", "groups_skipped"))
    answers = sum(row["n_rollouts"] for row in of.history)
    early = "" if len(of.history) == of.planned else f" of {of.planned:,} planned"
    return (
        f"It began with {of.start} and took {len(of.history):,} steps{early}: {answers:,} answers in "
        f"{plural(groups, 'group')}, {skipped:,} of them left out, since all answers in them earned the same."
    )


def _warned(of: Reinforced) -> list[Block]:
    """Answers that failed, and steps that changed nothing."""
    out: list[Block] = []
    if failed := sum(row["failed_rollouts"] for row in of.history):
        said = f"{plural(failed, 'answer')} failed on the server and were neither rewarded nor learnt from."
        out.append(Prose(said, warning=True))
    if idle := sum(not row["updates"] for row in of.history):
        said = f"{plural(idle, 'step')} changed nothing: in no group did rewards differ."
        out.append(Prose(said, warning=True))
    return out


def _by_steps(report: Report, of: Reinforced) -> Table:
    rows, before = [], 0
    for step in sorted(of.val_rewards):
        since = [row for row in of.history if before < row["step"] <= step]
        rows.append(
            [
                Cell(str(step)),
                *(Cell(number(_mean(since, name))) for name in _WHILE.values()),
                Cell(number(of.val_rewards[step]["reward_mean"])),
            ]
        )
        before = step
    chosen = frozenset(i for i, step in enumerate(sorted(of.val_rewards)) if step == report.selection.step)
    notes = [
        "Sampled answers to train texts, mean over the steps since the row before; on val, greedy answers. "
        "drift: nats by which a token is likelier than at the start, where reinforce.kl asks."
    ]
    return Table(["step", *_WHILE, "reward on val"], rows, left=0, strong=chosen, notes=notes)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    found = [row[name] for row in rows if row[name] is not None]
    return fmean(found) if found else None


def _by_name(report: Report, of: Reinforced) -> Table:
    """Each reward on the same rows of val, at the start and at the chosen step."""
    chosen = report.selection.step
    before, after = (of.val_rewards[step]["rewards"] for step in (0, chosen))
    rows = [
        cells(
            _NAMES[name],
            f"{weight:g}",
            number(before.get(name)),
            number(after.get(name)),
            signed(after[name] - before[name]) if name in before and name in after else number(None),
        )
        for name, weight in of.weights.items()
    ]
    found = of.val_rewards[chosen]
    note = f"Greedy answers to {plural(found['rows'], 'row')} of val, by which no step was chosen."
    failed = f" {plural(found['failed_rows'], 'answer')} failed." if found["failed_rows"] else ""
    columns = ["reward", "weight", "at the start", f"step {chosen}", "difference"]
    return Table(columns, rows, title="Rewards on val", notes=[note + failed])
