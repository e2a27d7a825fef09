"""A rulebook is its files in order, with the ids that rationales may cite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import RulesConfig
from core.errors import PromptError
from core.rulebook import Rulebook, load_rulebook, natural_key

REPO = Path(__file__).resolve().parents[2]


def book(folder: Path, files: dict[str, str], glob: str = "*.txt") -> Rulebook:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return load_rulebook(RulesConfig(dir=str(folder), glob=glob))


def test_rulebook_has_nonempty_files_in_name_order_with_headings(tmp_path: Path) -> None:
    found = book(tmp_path, {"b.txt": "R2 second\n", "a.txt": "\n R1 first ", "c.txt": " \n", "d.md": "R9"})
    assert found.text == "## a.txt\nR1 first\n\n## b.txt\nR2 second"
    assert found.files == ("a.txt", "b.txt")


def test_a_file_named_after_an_id_is_that_rule(tmp_path: Path) -> None:
    found = book(tmp_path, {"R1_prize.txt": "A prize.\nR2 is about calls.", "R2-call.txt": "R2 Calls\nmore"})
    assert [(r.id, r.file, r.text) for r in found.rules] == [
        ("R1", "R1_prize.txt", "A prize.\nR2 is about calls."),
        ("R2", "R2-call.txt", "R2 Calls\nmore"),
    ]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Task: judge.\nR1 Entailment: one.\n  and on\nR2: two", ("R1", "R2")),
        ("- R1: one\n- R2: two", ("R1", "R2")),
        ("## R1\none\n## R2a\ntwo", ("R1", "R2a")),
        ("[R1] one\n(R2) two\n**R3** three\nR4. four\nR5) five", ("R1", "R2", "R3", "R4", "R5")),
        ("S1.1 one\nS1.2 two", ("S1.1", "S1.2")),
        ("As R1 says, no.\nNot R2: no.\nr3 no\nRule one", ()),
    ],
)
def test_ids_are_those_that_begin_a_line(tmp_path: Path, text: str, ids: tuple[str, ...]) -> None:
    assert book(tmp_path, {"rules.txt": text}).ids == ids


def test_version_in_a_file_name_is_not_a_rule_id(tmp_path: Path) -> None:
    assert book(tmp_path, {"V2_policy.txt": "R1 one\nR2 two"}).ids == ("R1", "R2")


def test_line_ends_do_not_change_the_digest(tmp_path: Path) -> None:
    unix = book(tmp_path / "u", {"a.txt": "R1 one\nR2 two\n"})
    windows = book(tmp_path / "w", {"a.txt": "\ufeffR1 one\r\nR2 two\r\n"})
    other = book(tmp_path / "o", {"a.txt": "R1 one\nR2 three\n"})
    assert unix.digest == windows.digest != other.digest


@pytest.mark.parametrize(
    ("files", "glob", "message"),
    [
        ({}, "*.txt", "{d}: no file matches '*.txt'; it is empty: put rule files there or set rules.glob"),
        (
            {"a.md": "R1"},
            "*.txt",
            "{d}: no file matches '*.txt'; it contains a.md: put rule files there or set rules.glob",
        ),
        (
            {"a.txt": " \n"},
            "*.txt",
            "{d}: every file that matches '*.txt' is empty; write the rules into them",
        ),
        (
            {"a.txt": "R1 one", "b.txt": "R1 two"},
            "*.txt",
            "{d}: the rule id R1 occurs twice, in a.txt and b.txt; rename one",
        ),
        ({"a.txt": "R1 one\nR1 two"}, "*.txt", "{d}: the rule id R1 occurs twice, in a.txt; rename one"),
    ],
)
def test_invalid_rulebook_is_rejected_with_its_place(
    tmp_path: Path, files: dict[str, str], glob: str, message: str
) -> None:
    with pytest.raises(PromptError) as e:
        book(tmp_path, files, glob)
    assert str(e.value) == message.format(d=tmp_path)


def test_missing_rules_folder_is_reported_with_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PromptError) as e:
        load_rulebook(RulesConfig(dir="rules"))
    assert str(e.value) == f"{tmp_path}/rules does not exist; set rules.dir to the folder of your rule files"


def test_folder_of_rule_folders_is_reported_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "spam").mkdir()
    (tmp_path / "spam" / "a.txt").write_text("R1 one")
    with pytest.raises(
        PromptError, match=r"its folders spam contain such files: set rules\.dir to one of them"
    ):
        book(tmp_path, {})


def test_rule_file_that_is_not_utf_8_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"R1 caf\xe9")
    with pytest.raises(PromptError, match=r"a\.txt: byte 6 is not UTF-8; save the file as UTF-8"):
        load_rulebook(RulesConfig(dir=str(tmp_path)))


def test_rules_of_the_repository_have_ids() -> None:
    assert load_rulebook(RulesConfig(dir=str(REPO / "rules/sms"))).ids == tuple(f"R{i}" for i in range(1, 7))
    assert load_rulebook(RulesConfig(dir=str(REPO / "rules/fpb"))).ids == tuple(f"R{i}" for i in range(1, 6))


def test_files_and_their_rules_are_in_natural_order(tmp_path: Path) -> None:
    names = ["R10_last.txt", "R2_calls.txt", "R1_prizes.txt", "R9_b.txt", "R11.txt", "intro.txt"]
    found = book(tmp_path, {name: f"text of {name}" for name in names})
    expected = ("R1_prizes.txt", "R2_calls.txt", "R9_b.txt", "R10_last.txt", "R11.txt", "intro.txt")
    assert found.files == expected
    assert found.ids == ("R1", "R2", "R9", "R10", "R11")
    assert found.text.split("\n\n")[3] == "## R10_last.txt\ntext of R10_last.txt"


@given(st.lists(st.text(st.sampled_from("aR_.-~ \u00e9019"), min_size=1), max_size=12))
def test_names_without_long_numbers_are_in_plain_order(names: list[str]) -> None:
    """So rulebooks of fewer than ten rules, and the answers stored for them, stay valid."""
    short = [re.sub(r"[0-9]+", lambda m: m.group()[0], name) for name in names]
    assert sorted(short, key=natural_key) == sorted(short)


def test_quickstart_rulebook_is_unchanged() -> None:
    found = load_rulebook(RulesConfig(dir=str(REPO / "rules/sms")))
    assert list(found.files) == sorted(found.files)
