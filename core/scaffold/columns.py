"""What the columns of a table are: text, label and its positive values, id, group, split; with the reasons.

Names decide where several columns could be meant; where they do not, the user is asked.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.config import DataConfig
from core.data.labeled_rows import ALIASES, LabelMap
from core.errors import DataError
from core.records import SPLITS
from core.scaffold.table_file import Sample

MOST_LABELS = 20
"""The most values of a column that is taken for a label without being named."""
_LONGEST_LABEL = 60
_LONGEST_NAME = 4
"""Words of the longest name of a text column, where the first line may be a row."""
_SHOWN = 8
"""Columns or values that a message lists."""
_TEXT = r"text|comment|message|body|content|review|sentence|post|tweet|description|abstract|question|prompt"
_LABEL = r"label|labels|class|target|category|gold|sentiment|y|is[_ ]?\w+|\w+[_ ](?:label|class|flag)"
_ID = r"(?:\w*[_ -])?(?:id|uuid|guid|key)"
_GROUP = (
    r"(?:(?:author|user|thread|conversation|document|doc|source|film|movie|product|customer|patient|session|"
    r"site|domain|company)(?:[_ ]?(?:id|name))?|group)"
)
_SPLIT = r"split|set|subset|partition|fold"
_NEGATIVE = re.compile(
    r"ham|none|other|normal|clean|safe|ok|benign|legitimate|neutral|neg|n|(?:not?|non)[ _-].+", re.IGNORECASE
)
"""Names of the negative of two classes, besides those that the loader knows."""
_FEW_GROUPS = 20
_LARGEST_GROUP = 0.2
"""The share of rows of a group that is too large to be taken for a group without being named."""


@dataclass(frozen=True, slots=True)
class Options:
    """The user's choices about a table, each None or empty if there is none."""

    encoding: str | None = None
    separator: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    label_threshold: float | None = None
    id_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    max_bad_rows: int = 0


@dataclass(frozen=True, slots=True)
class Roles:
    """The columns by role, with the values of the labels; `why` gives the reason for each key of `data:`."""

    text: str
    label: str
    positive: tuple[str, ...] = ()
    """Empty if the loader knows both values, or a threshold decides."""
    negative: tuple[str, ...] = ()
    label_threshold: float | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    why: Mapping[str, str] = field(default_factory=dict)


class Unclear(DataError):
    """A choice that only the user can make; `option` is its field of Options, `choices` what it can be."""

    def __init__(self, message: str, option: str, choices: Sequence[str]) -> None:
        super().__init__(message)
        self.option, self.choices = option, tuple(choices)


@dataclass(frozen=True, slots=True)
class _Column:
    """What the values of a column are like; `counts` are of values that are not empty, as first written."""

    name: str
    rows: int
    counts: Mapping[str, int]
    characters: float
    words: float

    @classmethod
    def of(cls, name: str, values: Sequence[str]) -> _Column:
        filled = [value for value in values if value]
        first = {value.casefold(): value for value in reversed(filled)}
        counts = Counter(first[value.casefold()] for value in filled)
        n = max(len(filled), 1)
        return cls(
            name, len(values), counts, sum(map(len, filled)) / n, sum(len(v.split()) for v in filled) / n
        )

    @property
    def filled(self) -> int:
        return sum(self.counts.values())

    @property
    def unique(self) -> bool:
        """Whether each row has a value of its own."""
        return len(self.counts) == self.rows

    @property
    def could_be_label(self) -> bool:
        short = max(map(len, self.counts), default=0) <= _LONGEST_LABEL
        return 2 <= len(self.counts) <= min(MOST_LABELS, self.filled // 2) and short

    def named(self, pattern: str) -> bool:
        return re.fullmatch(pattern, self.name.strip(), re.IGNORECASE) is not None

    def shown(self) -> str:
        """Its values with the number of their rows, the most frequent first."""
        found = Counter(self.counts).most_common(_SHOWN)
        listed = ", ".join(f"{_short(value)} ({n:,} rows)" for value, n in found)
        return listed + (f" and {len(self.counts) - _SHOWN:,} more" if len(self.counts) > _SHOWN else "")


def find_roles(sample: Sample, options: Options) -> Roles:
    """Return the role of each column that has one.

    Raises Unclear where the user has to choose, and DataError for a column that does not exist or cannot have
    its role.
    """
    columns = {name: _Column.of(name, sample.values(name)) for name in sample.format.columns}
    for option in ("text_column", "label_column", "id_column", "group_column", "split_column"):
        _require(getattr(options, option), option, list(columns), sample.format.place)
    why: dict[str, str] = {}
    text = _text(columns, options, why)
    others = {name: column for name, column in columns.items() if name != text}
    split = _split(others, options, why)
    others.pop(split or "", None)
    label = _label(others, options, why)
    positive, negative = _classes(others.pop(label), text, options, sample, why)
    found_id = _id(others, options, why, whole=sample.whole)
    others.pop(found_id or "", None)
    group = _group(others, options, why)
    return Roles(text, label, positive, negative, options.label_threshold, found_id, group, split, why)


def _require(name: str | None, option: str, columns: Sequence[str], place: str) -> None:
    if name is not None and name not in columns:
        near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {_listed(columns)}"
        raise DataError(f"--{option.replace('_', '-')} {name}: {place} has no such column; {hint}")


def _text(columns: Mapping[str, _Column], options: Options, why: dict[str, str]) -> str:
    """The column of the longest values, a name for texts preferred among those of several words."""
    if options.text_column is not None:
        why["text_column"] = "as given"
        return options.text_column
    wordy = [c for c in columns.values() if c.words >= 2 and len(c.counts) > MOST_LABELS] or [
        c for c in columns.values() if c.words >= 2 and not c.could_be_label
    ]
    if not wordy:
        raise Unclear(
            f"no column of {_listed(columns)} has values of several words; name the one of the texts with "
            "--text-column",
            "text_column",
            list(columns),
        )
    named = [c for c in wordy if c.named(_TEXT)]
    found = max(named or wordy, key=lambda column: column.characters)
    also = [c.name for c in wordy if c is not found]
    words = f"{found.words:.0f} words on average"
    why["text_column"] = f"{words}; texts, too: {_listed(also)}" if also else words
    return found.name


def _label(columns: Mapping[str, _Column], options: Options, why: dict[str, str]) -> str:
    """The only column of few values, or the only one of them with a name for labels."""
    if options.label_column is not None:
        if options.label_column not in columns:
            raise DataError(
                f"--label-column {options.label_column}: the column already is the text or the split"
            )
        why["label_column"] = "as given"
        return options.label_column
    possible = [c for c in columns.values() if c.could_be_label]
    several = [c for c in columns.values() if len(c.counts) > 1]
    found = (
        [c for c in columns.values() if c.name.casefold() == "label" and c.counts]
        or [c for c in possible if c.named(_LABEL)]
        or possible
        or [c for c in several if c.named(_LABEL)]
    )
    if len(found) == 1:
        why["label_column"] = f"its values: {found[0].shown()}"
        return found[0].name
    if found:
        what = f"{len(found)} columns could be the label: {_listed(c.name for c in found)}"
    else:
        values = ", ".join(f"{c.name!r} {len(c.counts):,}" for c in list(columns.values())[:_SHOWN])
        what = f"no column has the 2 to {MOST_LABELS} different values of a label (there are: {values})"
    choices = [c.name for c in found] or list(columns)
    raise Unclear(f"{what}; name the label with --label-column", "label_column", choices)


def _classes(
    column: _Column, text: str, options: Options, sample: Sample, why: dict[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The positive and the negative values; empty if the loader knows both, or a threshold decides."""
    where = f"the label column {column.name!r}"
    within = "" if sample.whole else f" in the first {column.rows:,} rows"
    if column.name.strip() in column.counts and len(text.split()) > _LONGEST_NAME:
        raise DataError(
            f"{sample.format.place}: the first line seems to be a row; add one with the names of the columns"
        )
    if options.positive and options.label_threshold is not None:
        raise DataError("--positive and --label-threshold both decide which labels are positive; give one")
    if options.negative and not options.positive:
        raise DataError("--negative needs --positive: name the values of both")
    if options.label_threshold is not None:
        _check_threshold(column, options.label_threshold, where)
        why["label_threshold"] = "positive from this value on"
        return (), ()
    if options.positive:
        others = "; a row with another label is unusable" if options.negative else ""
        why["positive"] = f"as given{others}"
        return _given_classes(column, options, whole=sample.whole)
    if len(column.counts) < 2:
        only = f"only the value {next(iter(column.counts))!r}" if column.counts else "no values"
        other = "" if sample.whole else "; if others follow, name the positive one with --positive"
        raise DataError(f"{where} has {only}{within}; a student needs rows of two classes{other}")
    if len(column.counts) > 2:
        _refuse_many(column, f"{where} has {len(column.counts):,} values{within}")
    return _two_classes(column, LabelMap(DataConfig(path=sample.format.url)), why)


def _check_threshold(column: _Column, at: float, where: str) -> None:
    numbers = [number for number in map(_number, column.counts) if number is not None]
    if len(numbers) < len(column.counts):
        raise DataError(f"--label-threshold {at:g}: {where} has other values than numbers: {column.shown()}")
    if len({number >= at for number in numbers}) < 2:
        raise DataError(
            f"--label-threshold {at:g}: all values of {where} are on one side of it; they are from "
            f"{min(numbers, default=0):g} to {max(numbers, default=0):g}"
        )


def _given_classes(
    column: _Column, options: Options, *, whole: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The values that the user names as positive, as they are written; and as negative, or all others."""
    written = {value.casefold(): value for value in column.counts}
    named: list[tuple[str, ...]] = []
    for option, values in (("positive", options.positive), ("negative", options.negative)):
        stripped = [value.strip() for value in values]
        if whole and (missing := [value for value in stripped if value.casefold() not in written]):
            raise DataError(
                f"--{option} {missing[0]}: {column.name!r} has no such value; it has {column.shown()}"
            )
        named.append(tuple(dict.fromkeys(written.get(value.casefold(), value) for value in stripped)))
    positive = named[0]
    negative = named[1] or tuple(value for value in column.counts if value not in positive)
    if not negative:
        raise DataError(f"--positive: all values of {column.name!r} are named; leave out the negative ones")
    return positive, negative


def _two_classes(
    column: _Column, labels: LabelMap, why: dict[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The positive and the negative one of two values, by their names; else the rarer one is positive."""
    read = {value: labels.read(value) for value in column.counts}
    if set(read.values()) == {0, 1}:
        return (), ()
    common, rare = (value for value, _ in Counter(column.counts).most_common())
    named = [value for value in (common, rare) if read[value] == 0 or _NEGATIVE.fullmatch(value)]
    negative = named[0] if named else rare if read[common] == 1 else common
    positive = rare if negative == common else common
    by_name = named or read[positive] == 1
    why["positive"] = "by its name" if by_name else "the rarer value; exchange the two if it is not"
    return (positive,), (negative,)


def _refuse_many(column: _Column, what: str) -> None:
    """Raise an error for a label of more than two values: how to map them to two classes."""
    numbers = sorted(number for number in map(_number, column.counts) if number is not None)
    numeric, few = len(numbers) == len(column.counts), len(column.counts) <= MOST_LABELS
    if not (numeric or few):
        raise DataError(
            f"{what} ({column.shown()}), so it is not a label of two classes; name another column with "
            "--label-column, or the positive values with --positive"
        )
    example = Counter(column.counts).most_common()[-1][0]
    remedy = f"name each positive one with --positive, as in --positive {_quoted(example)}" if few else ""
    if numeric:
        threshold = f"--label-threshold {numbers[len(numbers) // 2]:g}"
        remedy += f"{', or ' if few else ''}name the least positive one: {threshold}"
    raise Unclear(
        f"{what} ({column.shown()}), and a student learns two classes; {remedy}",
        "positive" if few else "label_threshold",
        list(column.counts) if few else [],
    )


def _id(columns: Mapping[str, _Column], options: Options, why: dict[str, str], *, whole: bool) -> str | None:
    if options.id_column is not None:
        why["id_column"] = "as given"
        return options.id_column
    found = next((c for c in columns.values() if c.named(_ID) and c.unique and c.words <= 1), None)
    if found is None:
        return None
    why["id_column"] = f"each of {'' if whole else 'the first '}{found.rows:,} rows has its own"
    return found.name


def _group(columns: Mapping[str, _Column], options: Options, why: dict[str, str]) -> str | None:
    if options.group_column is not None:
        why["group_column"] = "as given; rows of one group stay in one split"
        return options.group_column
    for column in columns.values():
        sizes = column.counts.values()
        if (
            column.named(_GROUP)
            and _FEW_GROUPS <= len(sizes) < column.filled
            and max(sizes) <= _LARGEST_GROUP * column.rows
        ):
            why["group_column"] = f"{len(sizes):,} groups; rows of one group stay in one split"
            return column.name
    return None


def _split(columns: Mapping[str, _Column], options: Options, why: dict[str, str]) -> str | None:
    """The column with the names of all three splits."""

    def names(column: _Column) -> set[str | None]:
        return {ALIASES.get(value.casefold()) for value in column.counts}

    if options.split_column is not None:
        if names(columns[options.split_column]) != set(SPLITS):
            raise DataError(
                f"--split-column {options.split_column}: it needs the values {', '.join(SPLITS)}, all three; "
                f"it has {columns[options.split_column].shown()}"
            )
        why["split_column"] = "as given"
        return options.split_column
    found = next((c.name for c in columns.values() if c.named(_SPLIT) and names(c) == set(SPLITS)), None)
    if found is not None:
        why["split_column"] = f"its values: {columns[found].shown()}"
    return found


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _short(value: str) -> str:
    return value if len(value) <= 40 else value[:37] + "..."


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w.-]+", value) else f"'{value}'"


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
