from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config import DataConfig
from core.data import labeled_rows
from core.data.labeled_rows import read, read_split_file
from core.errors import DataError

Write = Callable[..., Path]

TABLE = "text,label\na,1\nb,0\n"


def splits(**settings: Any) -> list[tuple[str, str | None]]:
    return [(row.example.text, row.split) for row in read(DataConfig(**settings)).rows]


@pytest.mark.parametrize("layout", ["mail/mail_{}", "mail/{}", "mail_{}", "{}"])
@pytest.mark.parametrize("alias", ["val", "valid", "validation"])
def test_all_folder_layouts_are_found(write: Write, layout: str, alias: str) -> None:
    for name in ("train", alias, "test"):
        write(f"text,label\n{name},1\n", f"set/{layout.format(name)}.csv")
    assert splits(dir="set", name="mail") == [("train", "train"), (alias, "val"), ("test", "test")]


def test_all_missing_splits_are_listed_in_one_error_with_what_was_tried(write: Write, tmp_path: Path) -> None:
    write(TABLE, "set/train.csv")
    with pytest.raises(DataError) as e:
        splits(dir="set", name="mail")
    first, val, test = str(e.value).split("\n")
    folder = tmp_path / "set"
    assert (
        first
        == f"{folder} lacks the splits val, test; put a file there, or set data.dir and data.name; tried:"
    )
    assert val.startswith(f"  val: {folder}/mail/mail_val.csv, {folder}/mail/val.csv, {folder}/mail_val.csv")
    assert val.endswith(f"{folder}/validation.csv")
    assert test.count(",") == 3


def test_three_files_are_three_splits(write: Write) -> None:
    for name in ("a", "b", "c"):
        write(f"text,label\n{name},1\n", f"{name}.csv")
    files: Any = {"train": "c.csv", "val": "b.csv", "test": "a.csv"}
    assert splits(files=files) == [("c", "train"), ("b", "val"), ("a", "test")]
    assert list(labeled_rows.content(DataConfig(files=files))) == [
        "data.files.train",
        "data.files.val",
        "data.files.test",
    ]


def test_split_column_accepts_aliases_and_empty_cells_exclude_rows(write: Write) -> None:
    write("text,label,part\na,1,Train\nb,0,validation\nc,1,test\nd,junk, \n")
    assert splits(path="data.csv", split_column="part") == [("a", "train"), ("b", "val"), ("c", "test")]
    assert read(DataConfig(path="data.csv", split_column="part")).left_out == 1


def test_unknown_split_is_a_bad_row(write: Write) -> None:
    write("text,label,part\na,1,dev\n")
    with pytest.raises(
        DataError, match=r"data.csv:2: the split 'dev' is none of train, val, valid, validation, test"
    ):
        splits(path="data.csv", split_column="part")


def test_rows_missing_from_the_split_file_are_excluded_and_never_bad(write: Write) -> None:
    write("id,text,label\nr1,a,1\nr2,b,junk\nr3,c,0\nr4,a,0\n")
    write("id,split\nr3,valid\nr1,train\n", "split.csv")
    settings: dict[str, Any] = {
        "path": "data.csv",
        "id_column": "id",
        "split_file": "split.csv",
        "conflicts": "error",
    }
    assert splits(**settings) == [("a", "train"), ("c", "val")]
    assert read(DataConfig(**settings)).left_out == 2


def test_unknown_ids_in_the_split_file_are_an_error_with_examples(write: Write, tmp_path: Path) -> None:
    write(TABLE)
    write("id,split\nr3,val\nr1,train\n", "split.csv")
    with pytest.raises(DataError) as e:
        splits(path="data.csv", split_file="split.csv")
    assert str(e.value) == (
        f"{tmp_path}/split.csv names 2 ids that the data does not have, for example r3, r1; "
        f"ids are hashes of the stripped text"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("id,split\na,train\na,train\na,test\n", "{place}:4: a is in test, but in train on line 2"),
        ("id,split\na,dev\n", "{place}:2: the split 'dev' is none of train, val, valid, validation, test"),
        ("id,split\n,test\n", "{place}:2: the id is empty"),
        ("id,split\n", "{place} has a header but no rows"),
        ("id,part\na,b\n", "{place} has no column 'split'; it has 'id', 'part'"),
        ("id,split\na\n", "{place}:2: 1 columns where at least 2 are needed"),
    ],
)
def test_unreadable_split_file_is_rejected(write: Write, tmp_path: Path, content: str, sentence: str) -> None:
    write(content, "split.csv")
    with pytest.raises(DataError) as e:
        read_split_file("split.csv")
    assert str(e.value) == sentence.format(place=tmp_path / "split.csv")


def test_key_content_depends_on_bytes_and_ending_but_not_on_the_path(write: Write) -> None:
    write(TABLE)
    write(TABLE, "elsewhere/other.csv")
    write(TABLE, "data.tsv")
    keys = [labeled_rows.content(DataConfig(path=p)) for p in ("data.csv", "elsewhere/other.csv", "data.tsv")]
    assert keys[0] == keys[1] != keys[2]
    write(TABLE + "c,1\n")
    assert labeled_rows.content(DataConfig(path="data.csv")) != keys[0]
