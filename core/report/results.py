"""The table of all scorers with intervals, their decisions counted, and the result at 0.5."""

from __future__ import annotations

from collections.abc import Sequence

from core.config.measure import METRICS
from core.report.blocks import UNDEFINED, Block, Bullets, Cell, Prose, Section, Table, cells
from core.report.inputs import Compared
from core.report.plots.forest import differences
from core.report.plots.shares import confusion
from core.report.scorers import Facts, comparisons, scorers, student, with_probabilities
from core.report.words import count, grouped, name_of, number, plural, signed, span, with_interval

FIRST = ("macro_f1", "auroc", "accuracy", "precision", "recall")
"""The metrics that a reader looks for first."""
_AT_DEFAULT = ("macro_f1", "accuracy", "precision", "recall")


def compared() -> tuple[str, ...]:
    """Return all metrics in the order of the tables."""
    return tuple(dict.fromkeys([*FIRST, *METRICS]))


STUDENT = frozenset({0})
"""The row to look at first."""


def sections(report: Compared) -> list[Section]:
    """The results, the comparisons behind the verdict, and 0.5 beside the chosen threshold."""
    out = [_results(report)]
    if report.analysis["comparisons"]:
        out.append(_comparisons(report))
    return [*out, _default(report)]


def _results(report: Compared) -> Section:
    rows, split = plural(report.analysis["rows"], "row"), report.split
    intro = (
        f"Values on {rows} of {split}, {report.analysis['positive']:,} of them positive, with 95 % "
        f"intervals. {_how(report)} Precision, recall, F1 and AUPRC are those of the positive class; log "
        "loss and Brier score are better when smaller. A text is predicted positive when its probability is "
        "at or above the scorer's own threshold, which was chosen on val (that of the majority class is 0.5)."
    )
    title = f"All on the same rows of {split}"
    blocks: list[Block] = [Prose(intro), _metrics(report), _counts(report)]
    picture = confusion(report)
    return Section("results", title, [*blocks, *([picture] if picture else [])])


def _how(report: Compared) -> str:
    a = report.analysis
    drawn = f"{plural(a['groups'], 'group')} drawn whole" if a["clustered"] else "drawn within each class"
    how = f"Intervals are percentiles of {a['resamples']:,} bootstrap resamples, {drawn}"
    return f"{how}." if a["clustered"] else f"{how}, and Wilson's for accuracy, precision and recall."


def _metrics(report: Compared) -> Table:
    """All scorers and all metrics."""
    found = scorers(report)
    rows = [
        [
            Cell(s["title"]),
            *(with_interval(s["intervals"][m]) for m in compared()),
            Cell(number(s["threshold"])),
            Cell(number(_invalid(s, report))),
        ]
        for s in found
    ]
    return Table(
        ["", *map(name_of, compared()), "threshold", "without a label"],
        rows,
        strong=STUDENT,
        notes=_why(found),
    )


def _invalid(s: Facts, report: Compared) -> float | None:
    """The share of rows that the scorer gave no valid label."""
    if "at_default" in s:
        found: float | None = s["at_default"]["invalid_label_rate"]
        return found
    rows = report.analysis["rows"]
    return s["unlabelled"] / rows if rows else None


def _why(found: Sequence[Facts]) -> list[str]:
    """For each scorer with a dash, or an interval to beware of, the reason."""
    out = []
    for s in found:
        undefined = grouped((name_of(m), i["undefined"]) for m, i in s["intervals"].items() if i["undefined"])
        noted = grouped((name_of(m), i["note"]) for m, i in s["intervals"].items() if i["note"])
        out += [
            f"{s['title']}: {', '.join(names)} undefined, {_own(why, s['title'])}."
            for why, names in undefined.items()
        ]
        if unlabelled := s.get("unlabelled"):
            out.append(
                f"{s['title']}: {plural(unlabelled, 'row')} without a label, which counts as negative."
            )
        out += [f"{s['title']}, {', '.join(names)}: {why}." for why, names in noted.items()]
    return out


def _own(why: str, title: str) -> str:
    """A reason that begins with its scorer's name, without it."""
    if why.startswith(f"{title}: "):
        return why.removeprefix(f"{title}: ")
    return f"it{why.removeprefix(title)}" if why.startswith(f"{title} ") else why


def _counts(report: Compared) -> Table:
    found = scorers(report)
    rows = []
    for s in found:
        k = s["counts"]
        four = [UNDEFINED] * 4 if k is None else [count(k[name]) for name in ("tp", "fp", "fn", "tn")]
        rows.append(cells(s["title"], *four))
    head = ["", "true positives", "false positives", "false negatives", "true negatives"]
    return Table(head, rows, title="Counts of the decisions", strong=STUDENT)


def _comparisons(report: Compared) -> Section:
    intro = (
        f"{student(report)['title']} minus the other, on the same rows. The interval decides: a difference "
        "is shown where its 95 % interval excludes 0. The intervals of a metric hold together, for all "
        f"{plural(len(report.analysis['comparisons']), 'comparison')} at once, and p, the paired "
        "bootstrap's, is adjusted alike. McNemar's exact test looks at the rows that only one of the two has "
        "right; its p is not adjusted and decides nothing here. The smallest difference is what these rows "
        "show four times in five."
    )
    pictures = [differences(report, metric) for metric in ("macro_f1", "auroc")]
    blocks: list[Block] = [Prose(intro), *(p for p in pictures if p is not None), _tests(report)]
    notes = grouped((other["title"], c["note"]) for other, c in comparisons(report) if c["note"])
    said = [f"{', '.join(titles)}: {note}." for note, titles in notes.items()]
    return Section("comparisons", "Against the others", [*blocks, *([Bullets(said)] if said else [])])


def _tests(report: Compared) -> Table:
    rows = []
    for other, c in comparisons(report):
        cells_of: list[Cell] = [Cell(other["title"])]
        for metric in ("macro_f1", "auroc"):
            d = c["differences"][metric]
            cells_of += [
                Cell(signed(d["value"]), span(d["low"], d["high"], sign=True)),
                Cell(p_value(d["p_adjusted"])),
                Cell(number(d["detectable"])),
            ]
        m = c["mcnemar"]
        cells_of += cells(
            UNDEFINED if m is None else f"{m['only_a']:,} : {m['only_b']:,}", p_value(m["p"] if m else None)
        )
        rows.append(cells_of)
    by_metric = [column for m in ("macro-F1", "AUROC") for column in (f"Δ {m}", f"p, {m}", f"smallest Δ {m}")]
    return Table(["against", *by_metric, "right alone, it : other", "p, McNemar"], rows)


def p_value(value: float | None) -> str:
    """A p-value as it is read."""
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _default(report: Compared) -> Section:
    """What was declared beforehand, beside what val chose."""
    intro = (
        "0.5 on the probabilities as they came was declared before anything was fitted; the chosen threshold "
        "lies on calibrated probabilities. Where the two tell different stories, the choice on val made the "
        "difference."
    )
    found = with_probabilities(report)
    rows = []
    for s in found:
        row = [Cell(s["title"]), Cell(number(s["threshold"]))]
        for m in _AT_DEFAULT:
            row += cells(number(s["metrics"][m]), number(s["at_default"][m]))
        rows.append(row)
    columns = [c for m in _AT_DEFAULT for c in (f"{name_of(m)}, chosen", f"{name_of(m)}, at 0.5")]
    table = Table(["", "chosen", *columns], rows, strong=STUDENT)
    return Section("default", "At 0.5, declared beforehand", [Prose(intro), table])
