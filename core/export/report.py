"""`test_report.md`: what was run, who wins on test, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from core.evaluation.metrics import Metrics
from core.export import tables
from core.export.inputs import Entry, ModelBlock, ReportInputs
from core.export.markdown import UNDEFINED, code, plain
from core.export.verdict import sentences

BLOCK = ("accuracy", "balanced_accuracy", "macro_f1", "F1", "mcc", "precision", "recall", "auroc", "auprc")
COUNTS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True, slots=True)
class _Block:
    title: str
    model_path: str
    lines: tuple[tuple[str, str], ...]


def render(inputs: ReportInputs) -> str:
    """The report as Markdown."""
    text = resources.files("core.export").joinpath("templates/test_report.md.j2").read_text("utf-8")
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown; the filters escape
    )
    environment.filters.update(plain=plain, code=code)
    return environment.from_string(text).render(**_context(inputs)).rstrip("\n") + "\n"


def _context(inputs: ReportInputs) -> dict[str, Any]:
    return {
        "run_name": inputs.run_name,
        "generated_at": inputs.generated_at,
        "resume_state_path": inputs.resume_state_path,
        "verdict": sentences(inputs.entries, inputs.split, inputs.selection.metric),
        "selection": inputs.selection,
        "split": inputs.split,
        "any_baseline": any(e.kind == "baseline" for e in inputs.entries),
        "any_final": any(e.kind == "final" for e in inputs.entries),
        "undefined": undefined(inputs.entries),
        "funnel": inputs.funnel,
        "notices": inputs.notices,
        "files": inputs.files,
        "limits": limits(inputs),
        "models": [block(m) for m in inputs.models],
        **_tables(inputs),
    }


def _tables(inputs: ReportInputs) -> Mapping[str, str]:
    return {
        "setup": tables.setup(inputs),
        "comparison": tables.comparison(inputs.entries),
        "confusion": tables.confusion(inputs.entries),
        "curve": tables.curve(inputs.curve, inputs.selection.step),
        "sizes": tables.sizes(inputs.sizes),
        "funnel_table": tables.funnel(inputs.funnel) if inputs.funnel else "",
        "timings": tables.timings(inputs.seconds) if inputs.seconds else "",
    }


def undefined(entries: Sequence[Entry]) -> list[str]:
    """For each entry with a dash in the table, why."""
    out = []
    for entry in entries:
        reasons: dict[str, list[str]] = {}
        for name, reason in entry.metrics.undefined.items():
            reasons.setdefault(reason, []).append(name)
        out += [f"{entry.title}: {', '.join(names)} undefined, {why}." for why, names in reasons.items()]
    return out


def limits(inputs: ReportInputs) -> list[str]:
    """What the numbers do not show."""
    out = [
        "One run with one seed, and no intervals in this version: "
        "whether a small difference would come again is not tested.",
        "Selection and thresholds were fitted on val, so the figures there are a little too good.",
    ]
    m = inputs.entries[0].metrics if inputs.entries else None
    if m is not None and m.n_positive:
        out.insert(1, _grain(inputs.split, m))
    if inputs.split != "test":
        out.insert(0, f"Test was not exported: the table is of {inputs.split}, which was used for choosing.")
    return out


def _grain(split: str, m: Metrics) -> str:
    return (
        f"{split} has {m.n} rows, {m.n_positive} of them positive: one more text found or missed "
        f"moves recall by {1 / m.n_positive:.4f} and accuracy by {1 / m.n:.4f}."
    )


def block(model: ModelBlock) -> _Block:
    """A model as `name: value` lines with six decimals, for scripts that read the report."""
    if model.metrics is None:
        return _Block(model.title, model.model_path, (("metrics", "not measured in this run"),))
    written = model.metrics.to_json()
    names = (*BLOCK, "log_loss", "brier", "invalid_label_rate", "decision_threshold")
    lines = [(name, UNDEFINED if written[name] is None else f"{written[name]:.6f}") for name in names]
    lines += [(name, str(written[name])) for name in COUNTS]
    return _Block(model.title, model.model_path, tuple(lines))
