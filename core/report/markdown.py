"""`test_report.md`: the report without pictures and without any text of the data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.optional import Failure, Failures, strict
from core.report.blocks import UNDEFINED, Block, Bullets, Cell, Findings, Prose, Section, Table
from core.report.document import left_out, of_baselines, sections
from core.report.inputs import Compared, ModelBlock, Report
from core.report.verdict import sentences

BLOCK = ("accuracy", "balanced_accuracy", "macro_f1", "F1", "mcc", "precision", "recall", "auroc", "auprc")
COUNTS = ("tp", "fp", "fn", "tn")


def render(report: Report, failures: Failures | None = None) -> str:
    """The report as Markdown; the models are last, for scripts that read them there.

    `failures` gains the sections that fail, and is listed first.
    """
    failures = failures if failures is not None else strict()
    built = sections(report, failures)
    head = [f"# Test report: {plain(report.run_name)}", f"Generated at {report.generated_at}."]
    if report.resume_state_path is not None:
        head.append(f"resume_state_path: {code(report.resume_state_path)}")
    return _joined([*head, *map(_section, [*left_out(failures), *built]), *map(_model, report.models)])


def baselines(compared: Compared, sampled: Mapping[str, Any] | None, failures: Iterable[Failure] = ()) -> str:
    """`baseline_report.md`: the scorers that need no training, on the same rows."""
    built = of_baselines(compared, sampled, failures)
    return document(f"Baselines: {compared.run_name}", compared.generated_at, built)


def document(title: str, generated_at: str | None, sections: Sequence[Section]) -> str:
    """Any document of this look; one that is the same whenever it is made has no date."""
    dated = [] if generated_at is None else [f"Generated at {generated_at}."]
    return _joined([f"# {plain(title)}", *dated, *map(_section, sections)])


def _joined(parts: Sequence[str]) -> str:
    """As text that UTF-8 can hold."""
    return "\n\n".join(parts).encode("utf-8", "backslashreplace").decode() + "\n"


def _section(section: Section) -> str:
    blocks = [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join([f"## {plain(section.title)}", *blocks])


def _block(block: Block) -> str:
    """A block in Markdown; pictures and texts of the data are the page's alone."""
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Prose):
        return f"**{plain(block.text)}**" if block.warning else plain(block.text)
    if isinstance(block, Bullets):
        return _bullets(block.items)
    if isinstance(block, Findings):
        return _bullets(sentences(block))
    return ""


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {plain(item)}" for item in items)


def _table(table: Table) -> str:
    rows = [
        [_bold(_cell(c)) if i in table.strong and k == 0 else _cell(c) for k, c in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    parts = [plain(table.title) + ":"] if table.title else []
    parts.append(_piped([plain(column) for column in table.columns], rows, table.left))
    return "\n\n".join([*parts, *([_bullets(table.notes)] if table.notes else [])])


def _piped(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    marks = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, marks, *rows])


def _cell(cell: Cell) -> str:
    text = code(cell.text) if cell.code else plain(cell.text)
    return f"{text} ({plain(cell.detail)})" if cell.detail else text


def _bold(text: str) -> str:
    return f"**{text}**" if text else text


def _model(model: ModelBlock) -> str:
    """A model as `name: value` lines with six decimals."""
    lines = [f"- model_path: {code(model.model_path)}"]
    if model.metrics is None:
        lines.append("- metrics: not measured in this run")
    else:
        written = model.metrics.to_json()
        names = (*BLOCK, "log_loss", "brier", "invalid_label_rate", "decision_threshold")
        lines += [
            f"- {name}: {UNDEFINED if written[name] is None else f'{written[name]:.6f}'}" for name in names
        ]
        lines += [f"- {name}: {UNDEFINED if written[name] is None else written[name]}" for name in COUNTS]
    return "\n".join([f"## {plain(model.title)}", "", *lines])


def plain(value: object) -> str:
    """Text as one line that no Markdown or HTML reader takes for markup."""
    one_line = " ".join(str(value).split())
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", escaped)


def code(value: object) -> str:
    """A path or a name as a code span, also inside a table."""
    one_line = " ".join(str(value).split())
    longest = max((len(run) for run in re.findall(r"`+", one_line)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{one_line}{pad}{fence}".replace("|", r"\|")
