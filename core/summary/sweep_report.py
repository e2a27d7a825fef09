"""The report of a sweep: what val recommends, what each arm cost, and test for all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from core import jsonio
from core.errors import Failures
from core.jsonio import now
from core.report import (
    UNDEFINED,
    Block,
    Bullets,
    Cell,
    ComparisonData,
    Conclusion,
    Document,
    Findings,
    Prose,
    Section,
    Table,
    Tile,
    and_,
    begins,
    build_sections,
    cells,
    name_of,
    number,
    plural,
    render_markdown,
    render_page,
    scorer_sections,
    verdict,
    with_interval,
)
from core.store import Store
from core.summary.sweep_arms import Ended, Sweep, SweepResult, compare_arms

FOLDER = "sweeps"
MARKDOWN = "sweep_report.md"
PAGE = "sweep_report.html"
VALUES = "sweep.json"
_WORDINGS: dict[Conclusion, str] = {
    "better": "it is shown to be better than {others}",
    "even": "no difference is shown between it and {others}",
    "worse": "{others} {are} better, but a control",
}


def write_sweep_report(store: Store, sweep: Sweep, ended: Sequence[Ended]) -> str:
    """Write sweep_report.md, sweep_report.html and sweep.json to sweeps/<name>/; return the page's place."""
    found, at, failures = compare_arms(store, sweep, ended), now(), Failures()
    builders = {"recommendation": recommendation, "val": on_val, "arms": arms, "left": left_out}
    document = Document(
        title=f"Sweep: {sweep.name}",
        sections=build_sections({**builders, "test": on_test}, found, failures),
        generated_at=at,
        kind="Report of a sweep",
        name=sweep.name,
        facts=(f"{len(found.finished)} of {len(sweep.arms)} arms", sweep.base, at),
    )
    val, test, best = found.val, found.test, found.recommended
    values = {
        "sweep": sweep.name,
        "base": sweep.base,
        "generated_at": at,
        "metric": None if val is None else found.metric,
        "recommended": None if best is None else best.name,
        "recommended_by": "val",
        "arms": {arm.name: {"run": arm.run, "sets": list(arm.sets)} for arm in sweep.arms},
        "finished": [arm.name for arm in found.finished],
        "left": {each.arm.name: each.error for each in found.left_out},  # why an arm is not compared
        "val": None if val is None else val.to_json(),
        "test": None if test is None else test.to_json(),
    }
    files = {
        VALUES: jsonio.canonical(values).decode() + "\n",
        PAGE: render_page(document, failures),
        MARKDOWN: render_markdown(document, failures),
    }
    for name, text in files.items():
        store.backend.write(f"{FOLDER}/{sweep.name}/{name}", text.encode())
    return store.where(f"{FOLDER}/{sweep.name}/{PAGE}")


def recommendation(data: SweepResult) -> Section:
    """The recommended arm, how certain that is, and what must not be concluded."""
    title, val, best, metric = "What val recommends", data.val, data.recommended, data.metric
    if val is None or best is None:
        nothing = "No arm can be recommended: none was measured on val."
        return Section("recommendation", title, [Findings(nothing, {}, _remarks(data))])
    cell = with_interval(val.scorers[best.name].intervals[metric])
    value = f"{cell.text}, interval {cell.detail}" if cell.detail else cell.text
    by_conclusion = verdict.by_conclusion(val, metric)
    parts = [
        wording.format(others=and_([s.title for s in others]), are="is" if len(others) == 1 else "are")
        for conclusion, wording in _WORDINGS.items()
        if (others := by_conclusion.get(conclusion))
    ]
    rows, name = plural(val.rows, "row"), name_of(metric)
    compared = f": {'; '.join(parts)}." if parts else "; no other arm can be compared with it."
    headline = f"By {name} on {rows} of val, {best.name} is recommended ({value}){compared}"
    tiles = [Tile("Recommended", best.name)]
    for analysis in filter(None, (val, data.test)):
        tiles.append(verdict.metric_tile(analysis.scorers[best.name], metric, f" on {analysis.split}"))
    tiles.append(Tile("Arms", f"{len(data.finished)} of {len(data.sweep.arms)}"))
    against = verdict.differences(val, [metric])
    return Section("recommendation", title, [Findings(headline, against, _remarks(data), tiles)])


def _remarks(data: SweepResult) -> list[str]:
    if data.val is None:
        return []
    n = plural(len(data.finished), "arm")
    out = [
        "Checkpoint, calibration and threshold of each arm were fitted on these rows of val, so its figures "
        f"there are too good, and those of the best of {n} even more: they are for choosing."
    ]
    if data.test is not None:
        out.append(
            f"Test was read once for each of {n}, with everything of the arm frozen before, and had no part "
            "in the recommendation. Choosing among the arms by their figures on test is test-set selection: "
            "the best of several looks better there than it is, and only rows that no arm was measured on "
            "would show by how much."
        )
        if (best := data.recommended) is not None:
            cell = with_interval(data.test.scorers[best.name].intervals[data.metric])
            out.append(f"On test {best.name} reaches a {name_of(data.metric)} of {cell.line}.")
    if controls := [arm.name for arm in data.finished if arm.arm.is_control]:
        out.append(
            f"{and_(controls)} learned rationales of other texts, as a control, and "
            f"{'is' if len(controls) == 1 else 'are'} not recommended, whatever the figures: if an arm with "
            "its own rationales is not shown to be better, the content of the rationales is not shown to "
            "matter."
        )
    return out


def on_val(data: SweepResult) -> Section | None:
    """The rows that decide, with the recommended arm first."""
    if (val := data.val) is None:
        return None
    metrics = list(dict.fromkeys([data.metric, "auroc", "log_loss"]))
    steps = {arm.name: arm.result.best_step for arm in data.finished}
    differences = {other.title: c.differences[data.metric] for other, c in val.compared()}
    rows = [
        [
            Cell(s.title),
            *(with_interval(s.intervals[m]) for m in metrics),
            Cell(UNDEFINED if steps[name] is None else str(steps[name])),
            *verdict.difference(differences.get(s.title)),
        ]
        for name, s in val.scorers.items()
    ]
    columns = ["arm", *map(name_of, metrics), "step", f"Δ {name_of(data.metric)}, first minus this", "p"]
    intro = (
        f"{plural(val.rows, 'row')} of val, {val.positive:,} of them positive. The recommended arm comes "
        "first. A difference from it is shown if its 95 % interval excludes 0: the intervals hold for all "
        "arms at once, and p, from the paired bootstrap, is adjusted in the same way."
    )
    table = Table(columns, rows, strong=scorer_sections.FIRST)
    return Section("val", "All on the same rows of val", [Prose(intro), table])


def arms(data: SweepResult) -> Section:
    """What each arm changes, what it cost, and the command that publishes the recommended one."""
    sweep, finished, rows = data.sweep, {arm.name: arm for arm in data.finished}, []
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
    if data.recommended is not None:
        best = data.recommended.arm
        sets = [*sweep.overrides, *best.sets, f"run.name={best.run}", "publish=true"]
        command = ["understudy", "run", sweep.base, *(word for text in sets for word in ("--set", text))]
        label = Cell(f"To publish {best.name} (sweeps publish nothing)")
        blocks.append(Table(["", ""], [[label, Cell(shlex.join(command), code=True)]], left=2))
    return Section("arms", "The arms", blocks)


def left_out(data: SweepResult) -> Section | None:
    """The arms that failed or cannot be compared, and why."""
    if not data.left_out:
        return None
    intro = "These arms are in no table. The same command continues with what is left to do for them."
    items = [f"{each.arm.name} (run {each.arm.run}): {each.error}" for each in data.left_out]
    return Section("left", "Arms that are not compared", [Prose(intro, warning=True), Bullets(items)])


def on_test(data: SweepResult) -> list[Section]:
    """The tables of a run's report for all arms, each compared with the first."""
    if data.test is None:
        return []
    first = data.finished[0]
    test = ComparisonData(data.sweep.name, now(), first.arm.resolved.config, data.test, {})
    warning = (
        f"Not for choosing: test was read once for each of {plural(len(data.finished), 'arm')}; the "
        "recommendation above is by val."
    )
    sentences = []
    for _, c in data.test.compared():
        for d in (c.differences[m] for m in dict.fromkeys([data.metric, *verdict.SHOWN])):
            power = f" These rows show a difference of {number(d.detectable)} with 80 % power."
            sentences.append(f"{begins(d.verdict)}{'' if d.detectable is None else power}")
    table = scorer_sections.results(test)
    found = [
        Section(table.key, table.title, [Prose(warning, warning=True), *table.blocks]),
        Section("words", f"Each arm against {first.name}, in words", [Bullets(sentences)])
        if sentences
        else None,
        verdict.comparisons(test),
        scorer_sections.default(test),
    ]
    return [section for section in found if section is not None]
