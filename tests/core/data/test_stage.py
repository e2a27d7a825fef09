from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from core import jsonio, locations
from core.config import DataConfig
from core.data.duplicates import clean
from core.data.labeled_rows import TableRow, read
from core.data.stage import SplitSettings, content, split
from core.errors import UserError
from core.records import SPLITS, Example, read_examples
from core.stage import StageIO

Write = Callable[..., Path]
SPAM = "package://textdescriptives/textdescriptives/data/spam.csv"
SPLIT_FILE = Path(__file__).resolve().parents[3] / "dataset" / "sms" / "split.csv"


def stage(out: Path, seed: int = 42, **data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the stage returns and what it wrote."""
    returned = split(SplitSettings(seed=seed, data=DataConfig(**data)), StageIO({}, out))
    return returned, jsonio.read_json(out / "split_summary.json")


def test_stage_writes_three_splits_and_accounts_for_every_row(write: Write, tmp_path: Path) -> None:
    rows = [f"message number {i} of its kind,{i % 2},g{i % 30}" for i in range(60)]
    odd = ["message number 0 of its kind,0,g0", ",1,g1", "twice,1,g2", "twice,0,g2", "more,1,g3,past"]
    write("text,label,who,\n" + "\n".join([*rows, *odd, odd[0]]) + "\n")
    returned, summary = stage(
        tmp_path / "out", path="data.csv", name="mail", group_column="who", max_bad_rows=1, max_val_examples=5
    )
    assert returned["counts"] == summary["counts"]
    assert summary["counts"]["val"] == 5
    assert (summary["dataset_name"], summary["source_dir"], summary["seed"]) == ("mail", str(tmp_path), 42)
    assert summary["resolved_split_paths"]["val"] == str(tmp_path / "data.csv")
    assert summary["subset_limits"] == {"train": 0, "val": 5, "test": 0}
    # Of 60 good rows and 5 odd ones the one that overflows is left, in addition to the 60.
    assert sum(part["count"] for part in summary["source_split_summary"].values()) == 61
    assert summary["bad_rows"] == {
        "count": 1,
        "rows": [{"file": "data.csv", "line": 63, "reason": "the text (column 'text') is empty"}],
    }
    assert summary["groups"]["shared"] == {"train+val": 0, "train+test": 0, "val+test": 0}
    assert returned["notices"] == summary["notices"]
    assert summary["notices"][:3] == [
        "bad rows skipped: 1, the first at data.csv:63: the text (column 'text') is empty",
        "rows that hold something past the named columns, which was ignored: 1",
        "texts that stand more than once: 1; rows dropped: 2",
    ]
    for name in SPLITS:
        examples = read_examples(tmp_path / "out" / f"{name}.csv")
        assert len(examples) == summary["used_split_summary"][name]["count"] == summary["counts"][name]
        assert all(example.group for example in examples)


def test_same_settings_give_the_same_bytes(write: Write, tmp_path: Path) -> None:
    write("text,label\n" + "".join(f"message {i},{i % 2}\n" for i in range(40)))
    for out in ("a", "b"):
        stage(tmp_path / out, path="data.csv")
    for file in ("train.csv", "val.csv", "test.csv", "split_summary.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_groups_that_given_splits_share_are_reported(write: Write, tmp_path: Path) -> None:
    for name in SPLITS:
        write(f"text,label,who\n{name} one,1,ann\n{name} two,0,{name}\n", f"{name}.csv")
    _, summary = stage(tmp_path / "out", dir=".", group_column="who")
    assert summary["split"] == "given: three files"
    assert summary["groups"] == {"count": 4, "shared": {"train+val": 1, "train+test": 1, "val+test": 1}}
    assert (
        "groups are shared between given splits: train+val 1, train+test 1, val+test 1" in summary["notices"]
    )
    assert summary["resolved_split_paths"]["test"].endswith("/test.csv")


def test_giant_families_are_reported(write: Write, tmp_path: Path) -> None:
    chance = random.Random(1)
    alone = ["".join(chance.choices("abcdefghijklmnop ", k=30)).strip() + f"{i}" for i in range(180)]
    template = [f"your parcel number {i} will be delivered to you tomorrow morning" for i in range(20)]
    write("text,label\n" + "".join(f"{t},{i % 2}\n" for i, t in enumerate(alone + template)))
    _, summary = stage(tmp_path / "out", path="data.csv")
    near = summary["near_duplicates"]
    assert (near["families"], near["rows_in_families"]) == (1, 20)
    assert [(g["kind"], g["rows"], g["share"]) for g in near["giants"]] == [("family", 20, 0.1)]
    assert summary["notices"][0].startswith("a family of 20 rows (10.0%) stays in one split; one of them is ")


@pytest.fixture
def spam() -> dict[str, Any]:
    """The quickstart's data section."""
    try:
        locations.packaged_path(SPAM)
    except UserError as e:
        pytest.skip(str(e))
    return {
        "path": SPAM,
        "encoding": "latin-1",
        "text_column": "v2",
        "label_column": "v1",
        "positive": ("spam",),
        "negative": ("ham",),
        "split_file": str(SPLIT_FILE),
    }


def test_quickstart_split_matches_its_recorded_answers(spam: dict[str, Any], tmp_path: Path) -> None:
    returned, summary = stage(tmp_path, **spam)
    assert returned["counts"] == {"train": 400, "val": 300, "test": 600, "total": 1300}
    assert [returned["labels"][name]["1"] for name in SPLITS] == [160, 40, 80]
    assert (summary["rows_read"], summary["rows_left_out"]) == (5572, 4143)
    assert (summary["duplicates"]["texts"], summary["duplicates"]["dropped_rows"]) == (85, 129)
    assert summary["overflow_columns"] == {"rows_read": 50, "texts_used": 9}
    assert list(content(SplitSettings(seed=1, data=DataConfig(**spam)))) == ["data.path", "data.split_file"]


def test_digits_stay_text_and_conflicts_and_leaks_are_counted_on_nsmc(real_data: Path) -> None:
    config = DataConfig(path=str(real_data / "nsmc_200k" / "data.csv.gz"), id_column="id", leaks="drop")
    rows = read(config).rows
    assert len(rows) == 200_000
    assert sum(row.example.text.strip().isdigit() for row in rows) == 101
    # 214 where case and inner spaces are ignored too, as the search for near-duplicates does.
    assert clean(rows, config).conflicts.texts == 212


def test_leaks_between_random_splits_of_nsmc_are_all_found_and_dropped(real_data: Path) -> None:
    config = DataConfig(path=str(real_data / "nsmc_200k" / "data.csv.gz"), leaks="drop", conflicts="keep")
    chance = random.Random(42)
    rows = [TableRow(r.example, r.file, r.line, chance.choice(SPLITS)) for r in read(config).rows[:60_000]]
    cleaned = clean(rows, config)
    texts = {name: {row.example.text.strip() for row in rows if row.split == name} for name in SPLITS}
    left = {name: {row.example.text.strip() for row in cleaned.parts[name]} for name in SPLITS}
    assert cleaned.shared == {f"{a}+{b}": len(texts[a] & texts[b]) for a, b in combinations(SPLITS, 2)}
    assert min(cleaned.shared.values()) > 100
    assert not any(left[a] & left[b] for a, b in combinations(SPLITS, 2))
    assert left["test"] == texts["test"]


def test_any_seed_splits_sms_spam_close_to_its_shares_with_families_whole(
    real_data: Path, tmp_path: Path
) -> None:
    path = str(real_data / "sms_spam" / "data.csv")
    for seed in (1, 2):
        _, summary = stage(tmp_path, seed=seed, path=path, id_column="id")
        assert summary["counts"] == {"train": 3612, "val": 774, "test": 774, "total": 5160}
        assert [summary["used_split_summary"][n]["label_counts"]["1"] for n in SPLITS] == [450, 96, 96]
    assert isinstance(read_examples(tmp_path / "train.csv")[0], Example)
