from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from core.records import Example, Examples, iter_examples, read_examples, scan_examples, write_examples

WORDS = st.text(st.characters(codec="utf-8"), min_size=1)
EXAMPLES = st.lists(st.builds(Example, WORDS, WORDS, st.sampled_from([0, 1]), st.none() | WORDS))


@given(EXAMPLES)
def test_any_example_survives_a_round_trip_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, examples: list[Example]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    write_examples(path, examples)
    assert read_examples(path) == examples
    first = path.read_bytes()
    write_examples(path, read_examples(path))
    assert path.read_bytes() == first
    scanned = scan_examples(path)
    assert (list(scanned), len(scanned), list(scanned)) == (examples, len(examples), examples)


def test_examples_in_a_file_can_be_iterated_repeatedly(tmp_path: Path) -> None:
    some = [Example("a", "x\r\ny", 1), Example("b", "", 0, "g")]
    write_examples(tmp_path / "train.csv", some)
    scanned = scan_examples(tmp_path / "train.csv")
    assert list(zip(scanned, scanned, strict=True)) == list(zip(some, some, strict=True))
    assert some[1] in scanned
    assert Example("c", "", 0) not in scanned
    write_examples(tmp_path / "again.csv", scanned)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "train.csv").read_bytes()


def test_damaged_row_raises_on_scanning_or_when_reached(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("id,text,label\na,b,1\nc,d\n")
    with pytest.raises(DataError, match=r"train\.csv:3: the row is damaged"):
        scan_examples(path)
    lazily = iter_examples(path)
    assert next(lazily) == next(iter(Examples(path, 2))) == Example("a", "b", 1)
    with pytest.raises(DataError, match=r"train\.csv:3: the row is damaged"):
        next(lazily)


def test_columns_are_id_text_label_and_group_if_any(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    write_examples(path, [Example("a", "x\ry", 1)])
    assert path.read_bytes() == b'id,text,label\r\na,"x\ry",1\r\n'
    write_examples(path, [Example("a", "x", 1), Example("b", "y", 0, "g")])
    assert path.read_bytes() == b"id,text,label,group\r\na,x,1,\r\nb,y,0,g\r\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "{path} is not a split file: its columns are none"),
        ("text,label\n", "{path} is not a split file: its columns are text, label"),
        (
            "id,text,label\na,b,7\n",
            "{path}:2: the row is damaged; rebuild it with --refresh split",
        ),
        (
            'id,text,label\na,b,1\nc,"d,1\n',
            "{path}:3: the row is damaged; rebuild it with --refresh split",
        ),
    ],
)
def test_file_of_another_program_is_rejected(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(content)
    with pytest.raises(DataError) as e:
        read_examples(path)
    assert str(e.value) == sentence.format(path=path)
