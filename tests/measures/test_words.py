"""What the check of words reads, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

from tests.measures import words


def test_docstrings_comments_strings_and_pages_are_read(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "configs").mkdir()
    code = '"""A page\n\nthat says much."""\n\ntold = 1  # told\nprint("anew", f"{x} stood")\n'
    (tmp_path / "core" / "some.py").write_text(code)
    (tmp_path / "README.md").write_text("It is no\nbetter beside it.\n")
    (tmp_path / "configs" / "a.yaml").write_text("# borne\nkey: lent\n")
    assert words.find(tmp_path) == [
        "core/some.py:3: says",
        "core/some.py:5: told",
        "core/some.py:6: anew",
        "core/some.py:6: stood",
        "README.md:1: is no",
        "README.md:2: beside",
        "configs/a.yaml:1: borne",
    ]


def test_files_with_quotations_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    for name in (*words.QUOTED, ".venv/read.md", "tests/read.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('"""It says so."""\n')
    assert words.find(tmp_path) == []


def test_every_file_with_quotations_exists_and_has_some() -> None:
    for name in words.QUOTED:
        text = (words.REPO / name).read_text(encoding="utf-8")
        assert any(word in text for word in words.WORDS), name
