"""All rows of all runs under a root, and all that was passed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from core.records import SPLITS, SplitName
from core.store.objects import Store
from core.store.runs import STATE
from core.summary.checking import Unusable, parse
from core.summary.facts import READERS, Facts, facts
from core.summary.fetching import fetch
from core.summary.folders import PassedOver, RunFolder, run_folders
from core.summary.intervals import PLACES, Interval, Mode, of_analysis
from core.summary.measured import FILES, MODES, Measured, measured, place, stand_in

Ends = dict[tuple[str | None, Mode], dict[str, Interval]]
"""Intervals by metric, for each split and mode."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run and split and mode, with what is known of the run."""

    measured: Measured
    facts: Facts


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows by run, split and mode, and what there is no row for."""

    rows: Sequence[Row]
    passed: Sequence[PassedOver]

    @property
    def runs(self) -> int:
        """How many runs have rows."""
        return len({row.measured.run for row in self.rows})


def collect(store: Store, modes: Sequence[Mode] = MODES, *, with_facts: bool = True) -> Collected:
    """Every run's metrics; files and folders that are not what they should be are passed over.

    Raises StoreError where the root cannot be listed, PassingError where it does not answer.
    """
    folders, strays = run_folders(store)
    places = {place(split, mode): (split, mode) for split in SPLITS for mode in modes}
    stand_ins = {stand_in(split): (split, mode) for split, mode in places.values() if mode == "reasoning"}
    beside = [*READERS, *PLACES] if with_facts else []
    contents, refused = _fetched(store, folders, [*places, *stand_ins, *beside])
    unreadable = {each.place for each in refused}
    rows, passed, bare = list[Row](), [*strays, *refused], list[RunFolder]()
    for folder in folders:
        there = {p: which for p, which in places.items() if folder.at(p) in contents}
        taken = {p: w for p, w in stand_ins.items() if w not in there.values() and folder.at(p) in contents}
        there |= taken
        known, odd = facts(folder, contents) if there else (Facts(), [])
        found, wrong = _rows(folder, there, contents, known)
        ends, unread = _intervals(folder, contents)
        rows += [_with(row, ends) for row in found]
        passed += [*odd, *wrong, *unread, *_standing_in(folder, taken)]
        if not there and not any(folder.at(p) in unreadable for p in places):
            bare.append(folder)
    passed += _named(store, bare, modes)
    return Collected(rows, sorted(passed, key=lambda p: p.place))


def _fetched(
    store: Store, folders: Iterable[RunFolder], places: Sequence[str]
) -> tuple[dict[str, bytes], list[PassedOver]]:
    return fetch(store, [f.at(p) for f in folders for p in places if f.may_have(p)])


def _rows(
    folder: RunFolder,
    there: Mapping[str, tuple[SplitName, Mode]],
    contents: Mapping[str, bytes],
    known: Facts,
) -> tuple[list[Row], list[PassedOver]]:
    rows, passed = [], []
    for at, (split, mode) in there.items():
        path = folder.at(at)
        try:
            value, holds_nan = parse(contents[path])
            rows.append(Row(measured(folder.name, split, mode, value), known))
        except Unusable as e:
            passed.append(PassedOver(path, str(e)))
            continue
        if holds_nan:
            passed.append(PassedOver(path, "it holds NaN, which is no JSON; these cells stay empty"))
    return rows, passed


def _intervals(folder: RunFolder, contents: Mapping[str, bytes]) -> tuple[Ends, list[PassedOver]]:
    """What an analysis says, by split and mode."""
    found: Ends = {}
    passed = []
    for path in map(folder.at, PLACES):
        if path not in contents:
            continue
        try:
            split, by_mode = of_analysis(parse(contents[path])[0])
        except Unusable as e:
            passed.append(PassedOver(path, str(e)))
            continue
        found |= {(split, mode): ends for mode, ends in by_mode.items()}
    return found, passed


def _standing_in(folder: RunFolder, taken: Mapping[str, tuple[SplitName, Mode]]) -> list[PassedOver]:
    return [
        PassedOver(folder.at(at), f"it stands in for {PurePosixPath(place(*which)).name}, which is not there")
        for at, which in taken.items()
    ]


def _with(row: Row, ends: Ends) -> Row:
    """A row with an analysis' intervals, where its own file has none."""
    m = row.measured
    more = ends.get((m.split, m.mode))
    return replace(row, measured=replace(m, intervals=more)) if more and not m.intervals else row


def _named(store: Store, bare: Sequence[RunFolder], modes: Sequence[Mode]) -> list[PassedOver]:
    """Why folders without a metrics file have none: runs on their way, or other things."""
    states, refused = _fetched(store, bare, [STATE])
    looked_for = f"it holds no student_phase/{' or '.join(FILES[mode] for mode in modes)}"
    out = []
    for folder in bare:
        try:
            state = parse(states[folder.at(STATE)])[0]["state"]
            why = f"nothing is exported yet (state: {state})" if state != "finished" else looked_for
        except (KeyError, TypeError, Unusable):
            why = looked_for
        out.append(PassedOver(folder.at(""), why))
    return [*out, *refused]
