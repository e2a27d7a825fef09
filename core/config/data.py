"""`data:`: where the texts are, what the columns mean, and how the splits are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.config.section import CONTENT, ConfigSection
from core.records import LabelSet


class SplitFiles(ConfigSection):
    """Three files, one per split."""

    train: Annotated[str, CONTENT]
    """The texts the student learns from."""
    val: Annotated[str, CONTENT]
    """The texts everything is selected on."""
    test: Annotated[str, CONTENT]
    """The texts that are read once, at export."""


class SplitSizes(ConfigSection):
    """How large the made splits are: shares of the rows (that add up to 1), or counts."""

    train: float = Field(0.70, gt=0)
    """Share (below 1) or number of rows; the three are all shares or all counts."""
    val: float = Field(0.15, gt=0)
    """As `train`."""
    test: float = Field(0.15, gt=0)
    """As `train`."""

    @model_validator(mode="after")
    def _all_shares_or_all_counts(self) -> SplitSizes:
        sizes = (self.train, self.val, self.test)
        if all(s < 1 for s in sizes):
            if abs(sum(sizes) - 1) > 1e-6:
                raise ValueError(f"shares must add up to 1; these add up to {sum(sizes):g}")
        elif not all(s >= 1 and s == int(s) for s in sizes):
            raise ValueError("give three shares below 1, or three whole numbers of rows")
        return self


class NearDuplicates(ConfigSection):
    """Families of near-duplicate texts, which stay in one split."""

    enabled: bool = True
    """Search for families before a split is made."""
    threshold: float = Field(0.8, gt=0, le=1)
    """The Jaccard similarity of their shingles from which texts belong to one family."""
    shingle: int = Field(5, ge=1)
    """Length of a shingle, in characters of the lower-cased text with single spaces."""
    giant: float = Field(0.05, gt=0, le=1)
    """A family of more than this share of all rows is reported as giant."""


class DataConfig(ConfigSection):
    """Where the texts are, what the columns mean, and how the splits are made."""

    path: Annotated[str | None, CONTENT] = None
    """One table: a path, an fsspec URL, or `package://<distribution>/<path as it lists it>`."""
    files: SplitFiles | None = None
    """Three tables, one per split, instead of `path`."""
    dir: Annotated[str | None, CONTENT] = None
    """A folder with the three tables as `<name>/<name>_<split>.csv`, `<name>/<split>.csv`,
    `<name>_<split>.csv` or `<split>.csv` (valid and validation are read as val), instead of `path`."""
    name: str = "dataset"
    """The dataset's name, used to find files under `dir`."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = "auto"
    """`auto`: by the file's ending, before .gz and the like."""
    encoding: str = "utf-8"
    """Text encoding of CSV, TSV and JSON lines; a byte order mark is skipped, and refused where it
    contradicts the encoding."""
    separator: str | None = Field(None, min_length=1, max_length=1)
    """Column separator of CSV; by default a comma, for TSV a tab."""
    quotes: bool = True
    """Whether double quotes enclose fields of CSV and TSV, of up to 1,000 lines; false for exports that
    use none."""
    text_column: str = "text"
    """The column of the text."""
    label_column: str = "label"
    """The column of the label."""
    id_column: str | None = None
    """The column of the id; by default the id is a hash of the stripped text."""
    group_column: str | None = None
    """Rows with the same value here (an author, a thread) stay in one split."""
    split_column: str | None = None
    """The column with train, val or test, if the table is already split."""
    split_file: Annotated[str | None, CONTENT] = None
    """A CSV of id,split; rows that it does not name are left out and counted."""
    positive: tuple[str, ...] = ("1", "true", "yes", "positive")
    """Names of the positive class in the label column; upper and lower case are one."""
    negative: tuple[str, ...] = ("0", "false", "no", "negative")
    """Names of the negative class in the label column."""
    label_threshold: float | None = None
    """For numeric labels: positive from this value on, whatever numbers are in the names above."""
    max_bad_rows: int = Field(0, ge=0)
    """Rows that cannot be used before the run stops: no text, NULs or undecodable bytes in it, more fields
    than the header, a quote that does not close, a label outside the map."""
    sizes: SplitSizes = SplitSizes()
    """Sizes of the splits, if they are made here."""
    near_duplicates: NearDuplicates = NearDuplicates()
    """Families kept together, if the splits are made here."""
    duplicates: Literal["drop", "keep", "error"] = "drop"
    """Rows of the same text and label in one split (or table): keep the first, all, or stop."""
    conflicts: Literal["drop", "keep", "error"] = "drop"
    """Texts with both labels: drop all their rows, keep them, or stop."""
    leaks: Literal["error", "drop", "keep"] = "error"
    """Texts shared between given splits: stop, drop them from train (then val), or keep."""
    max_train_examples: int = Field(0, ge=0)
    """The most rows of train, stratified by label; 0 takes all."""
    max_val_examples: int = Field(0, ge=0)
    """The most rows of val; 0 takes all."""
    max_test_examples: int = Field(0, ge=0)
    """The most rows of test; 0 takes all."""

    @property
    def labels(self) -> LabelSet:
        """The labels with their values in the label column."""
        return LabelSet.binary(self.positive, self.negative)

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        given = [k for k in ("path", "files", "dir") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of path, files and dir; {given or 'none'} given")
        if self.path is None and (self.split_column or self.split_file):
            raise ValueError("split_column and split_file belong to one table, given as path")
        if self.split_column and self.split_file:
            raise ValueError("split_column and split_file both give the split; keep one")
        both = {p.casefold() for p in self.positive} & {n.casefold() for n in self.negative}
        if both:
            raise ValueError(f"{sorted(both)} are in positive and in negative")
        if not self.positive or not self.negative:
            raise ValueError("positive and negative each need at least one name")
        return self
