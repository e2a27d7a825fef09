"""The report of a sweep: what val recommends, what each arm cost, and test for all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core import jsonio
from core.evaluation.decision import DECISION, Decided
from core.jsonio import now
from core.optional import Failures
from core.pipeline.report_data import setup_of
from core.report import markdown, page
from core.report.data import ComparisonData
from core.report.document import (
    UNDEFINED,
    Block,
    Bullets,
    Cell,
    Conclusion,
    Document,
    Findings,
    Prose,
    Section,
    Table,
    Tile,
    build_sections,
    cells,
)
from core.report.sections import results, verdict
from core.report.text import and_, begins, name_of, number, plural, with_interval
from core.store.objects import Store
from core.sweep.arms import Sweep
from core.sweep.comparing import ArmComparison, Ended, FinishedArm, collect, compare_arms

FOLDER = "sweeps"
MARKDOWN = "sweep_report.md"
PAGE = "sweep_report.html"
VALUES = "sweep.json"


@dataclass(frozen=True, slots=True)
class SweepData:
    """What the report shows. `compared` is None if no arm finished."""

    sweep: Sweep
    generated_at: str
    finished: Sequence[FinishedArm]
    left_out: Sequence[Ended]
    compared: ArmComparison | None
    on_test: ComparisonData | None
    """None if an arm has no rows of test."""


def write(store: Store, sweep: Sweep, ended: Sequence[Ended]) -> str:
    """Write sweep_report.md, sweep_report.html and sweep.json to sweeps/<name>/; return the page's place."""
    data, folder, failures = _collect(store, sweep, ended), f"{FOLDER}/{sweep.name}", Failures()
    builders = {"recommendation": recommendation, "val": on_val, "arms": arms, "left": left_out}
    document = Document(
        title=f"Sweep: {sweep.name}",
        sections=build_sections({**builders, "test": on_test}, data, failures),
        generated_at=data.generated_at,
        kind="Report of a sweep",
        name=sweep.name,
        facts=(f"{len(data.finished)} of {len(sweep.arms)} arms", sweep.base, data.generated_at),
    )
    files = {
        VALUES: jsonio.canonical(_values(data)).decode() + "\n",
        PAGE: page.render(document, failures),
        MARKDOWN: markdown.render(document, failures),
    }
    for name, text in files.items():
        store.backend.write(f"{folder}/{name}", text.encode())
    return store.where(f"{folder}/{PAGE}")


def _collect(store: Store, sweep: Sweep, ended: Sequence[Ended]) -> SweepData:
    finished, left = collect(store, ended)
    compared = compare_arms(store, finished, sweep.metric) if finished else None
    test, at = None, now()
    if compared is not None and compared.test is not None:
        config = finished[0].arm.resolved.config
        setup = setup_of(config, config.teacher.kind)
        decisions = {arm.name: Decided.read(store.file(arm.decision, DECISION)) for arm in finished}
        test = ComparisonData(sweep.name, at, setup, compared.test, decisions)
    return SweepData(sweep, at, finished, left, compared, test)


def _values(data: SweepData) -> dict[str, Any]:
    """The content of sweep.json; `left` has the reason of each arm that is not compared."""
    compared = data.compared
    best = None if compared is None else compared.recommended
    test = None if compared is None else compared.test
    return {
        "sweep": data.sweep.name,
        "base": data.sweep.base,
        "generated_at": data.generated_at,
        "metric": None if compared is None else compared.metric,
        "recommended": None if best is None else best.name,
        "recommended_by": "val",
        "arms": {arm.name: {"run": arm.run, "sets": list(arm.sets)} for arm in data.sweep.arms},
        "finished": [arm.name for arm in data.finished],
        "left": {each.arm.name: each.error for each in data.left_out},
        "val": None if compared is None else compared.val.to_json(),
        "test": None if test is None else test.to_json(),
    }


def recommendation(data: SweepData) -> Section:
    """The recommended arm, how certain that is, and what must not be concluded."""
    compared, block = data.compared, Findings("No arm can be recommended: none was measured on val.", [], [])
    if compared is not None:
        remarks = _remarks(data, compared)
        block = Findings(block.headline, [], remarks)
        if (best := compared.recommended) is not None:
            found = verdict.findings(compared.val, [compared.metric])
            tiles = [Tile("Recommended", best.name)]
            for analysis in filter(None, (compared.val, compared.test)):
                where = f" on {analysis.split}"
                tiles.append(verdict.metric_tile(analysis, best.name, compared.metric, where))
            tiles.append(Tile("Arms", f"{len(data.finished)} of {len(data.sweep.arms)}"))
            block = Findings(_headline(compared, best), found, remarks, tiles)
    return Section("recommendation", "What val recommends", [block])


_WORDINGS: dict[Conclusion, str] = {
    "better": "it is shown to be better than {others}",
    "even": "no difference is shown between it and {others}",
    "worse": "{others} {are} better, but a control",
}


def _headline(compared: ArmComparison, best: FinishedArm) -> str:
    metric, val = compared.metric, compared.val
    cell = with_interval(val.scorers[best.name].intervals[metric])
    value = f"{cell.text}, interval {cell.detail}" if cell.detail else cell.text
    text = f"By {name_of(metric)} on {plural(val.rows, 'row')} of val, {best.name} is recommended ({value})"
    by = {found: [s.title for s in scorers] for found, scorers in verdict.by_conclusion(val, metric).items()}
    parts = [
        wording.format(others=and_(names), are="is" if len(names) == 1 else "are")
        for conclusion, wording in _WORDINGS.items()
        if (names := by.get(conclusion))
    ]
    return f"{text}: {'; '.join(parts)}." if parts else f"{text}; no other arm can be compared with it."


def _remarks(data: SweepData, compared: ArmComparison) -> list[str]:
    n = plural(len(data.finished), "arm")
    out = [
        "Checkpoint, calibration and threshold of each arm were fitted on these rows of val, so its figures "
        f"there are too good, and those of the best of {n} even more: they are for choosing."
    ]
    if compared.test is not None:
        out.append(
            f"Test was read once for each of {n}, with everything of the arm frozen before, and had no part "
            "in the recommendation. Choosing among the arms by their figures on test is test-set selection: "
            "the best of several looks better there than it is, and only rows that no arm was measured on "
            "would show by how much."
        )
        if (best := compared.recommended) is not None:
            cell = with_interval(compared.test.scorers[best.name].intervals[compared.metric])
            out.append(f"On test {best.name} reaches a {name_of(compared.metric)} of {cell.line}.")
    if controls := [arm.name for arm in data.finished if arm.arm.is_control]:
        out.append(
            f"{and_(controls)} learned rationales of other texts, as a control, and "
            f"{'is' if len(controls) == 1 else 'are'} not recommended, whatever the figures: if an arm with "
            "its own rationales is not shown to be better, the content of the rationales is not shown to "
            "matter."
        )
    return out


def on_val(data: SweepData) -> Section | None:
    """The rows that decide, with the recommended arm first."""
    if data.compared is None:
        return None
    metric, val = data.compared.metric, data.compared.val
    metrics = list(dict.fromkeys([metric, "auroc", "log_loss"]))
    steps = {arm.name: arm.result.best_step for arm in data.finished}
    differences = {other.title: c.differences[metric] for other, c in val.compared()}
    rows = [
        [
            Cell(s.title),
            *(with_interval(s.intervals[m]) for m in metrics),
            Cell(UNDEFINED if steps[name] is None else str(steps[name])),
            *results.difference(differences.get(s.title)),
        ]
        for name, s in val.scorers.items()
    ]
    columns = ["arm", *map(name_of, metrics), "step", f"Δ {name_of(metric)}, first minus this", "p"]
    intro = (
        f"{plural(val.rows, 'row')} of val, {val.positive:,} of them positive. The recommended arm comes "
        "first. A difference from it is shown if its 95 % interval excludes 0: the intervals hold for all "
        "arms at once, and p, from the paired bootstrap, is adjusted in the same way."
    )
    table = Table(columns, rows, strong=results.FIRST)
    return Section("val", "All on the same rows of val", [Prose(intro), table])


def arms(data: SweepData) -> Section:
    """What each arm changes, what it cost, and the command that publishes the recommended one."""
    sweep, finished = data.sweep, {arm.name: arm for arm in data.finished}
    rows = []
    for arm in sweep.arms:
        changes = Cell(" ".join(arm.sets) or "as the base", code=bool(arm.sets))
        cost = ["not compared", UNDEFINED, UNDEFINED, UNDEFINED]
        if (done := finished.get(arm.name)) is not None:
            usd, seconds = done.result.ledger.usd, done.result.ledger.total_seconds
            shown = f"{seconds:,.0f}" if seconds else UNDEFINED, UNDEFINED if usd is None else f"{usd:.4f}"
            cost = ["finished", f"{done.made} of {done.stages}", *shown]
        rows.append([Cell(arm.name), changes, Cell(arm.run, code=True), *cells(*cost)])
    intro = (
        f"Each arm is a run on {sweep.base} with a report of its own under runs/. Existing stages are "
        "reused, and stages that arms share are made once. Seconds and money are those that an arm's stages "
        "took when they were made, so their sum counts shared stages more than once."
    )
    columns = ["arm", "changes", "run", "", "stages made", "seconds", "US$"]
    blocks: list[Block] = [Prose(intro), Table(columns, rows, left=4)]
    if data.compared is not None and data.compared.recommended is not None:
        best = data.compared.recommended.arm
        sets = [*sweep.overrides, *best.sets, f"run.name={best.run}", "publish=true"]
        command = ["understudy", "run", sweep.base, *(word for text in sets for word in ("--set", text))]
        label = Cell(f"To publish {best.name} (sweeps publish nothing)")
        blocks.append(Table(["", ""], [[label, Cell(shlex.join(command), code=True)]], left=2))
    return Section("arms", "The arms", blocks)


def left_out(data: SweepData) -> Section | None:
    """The arms that failed or cannot be compared, and why."""
    if not data.left_out:
        return None
    intro = "These arms are in no table. The same command continues with what is left to do for them."
    items = [f"{each.arm.name} (run {each.arm.run}): {each.error}" for each in data.left_out]
    return Section("left", "Arms that are not compared", [Prose(intro, warning=True), Bullets(items)])


def on_test(data: SweepData) -> list[Section]:
    """The tables of a run's report for all arms, each compared with the first."""
    test = data.on_test
    if test is None or data.compared is None:
        return []
    table = results.results(test)
    warning = (
        f"Not for choosing: test was read once for each of {plural(len(data.finished), 'arm')}; the "
        "recommendation above is by val."
    )
    sentences = []
    for _, c in test.analysis.compared():
        for metric in dict.fromkeys([data.compared.metric, *verdict.SHOWN]):
            d = c.differences[metric]
            power = f" These rows show a difference of {number(d.detectable)} with 80 % power."
            power = "" if d.detectable is None else power
            sentences.append(f"{begins(d.verdict)}{power}")
    title = f"Each arm against {data.finished[0].name}, in words"
    found = [
        Section(table.key, table.title, [Prose(warning, warning=True), *table.blocks]),
        Section("words", title, [Bullets(sentences)]) if sentences else None,
        results.comparisons(test),
        results.default(test),
    ]
    return [section for section in found if section is not None]
