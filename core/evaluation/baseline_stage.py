"""The baseline stage: the classical baselines on the same rows as the student."""

from __future__ import annotations

from typing import Any

from core import jsonio
from core.config.base import Section
from core.data.writing import read_examples
from core.errors import DataError
from core.evaluation.classical import TITLES, Baseline, fit
from core.optional import CLASSICAL, Part, separable
from core.records import SPLITS
from core.stage import StageIO, stage

IMPOSSIBLE = "impossible"
"""The field of baselines.json that says why a baseline cannot be made from these rows."""


class BaselineSettings(Section):
    """The baselines have no settings in the config: theirs are fixed, or chosen on val; see
    core.evaluation.classical."""

    seed: int
    without: tuple[Part, ...] = ()
    """Baselines that failed and are left out."""


@stage("baseline", version=4, inputs=("split",), switch="export", shows="baseline_phase/baselines.json")
def baseline(config: BaselineSettings, io: StageIO) -> dict[str, Any]:
    """Fit on train, choose strengths on val, score all splits; returns the C of each that has one.

    A baseline that these rows make impossible has its reason in baselines.json and no scores. Raises
    PartFailed naming a baseline that failed otherwise.
    """
    splits = {name: read_examples(io.inputs["split"] / f"{name}.csv") for name in SPLITS}
    found: list[Baseline] = []
    about: dict[str, Any] = {}
    for name, title in TITLES.items():
        if CLASSICAL[name] in config.without:
            continue
        with separable(CLASSICAL[name]):
            try:
                found.append(fit(name, splits["train"], splits))
                about[name] = found[-1].to_json()
            except DataError as e:
                about[name] = {"title": title, IMPOSSIBLE: str(e).removeprefix(f"{title}: ")}
    jsonio.write_json(io.out / "baselines.json", about)
    for b in found:
        for split, rows in b.scored.items():
            rows.write(io.out / f"{b.name}_{split}.jsonl")
    return {b.name: b.settings["C"] for b in found if "C" in b.settings}
