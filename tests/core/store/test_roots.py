"""All spellings of a root name the same root, and a misspelled one creates nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import UserError
from core.store import RunView, Store, pointers, run_names
from tests.core.store.making import made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a cache for this test."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


SPELLINGS = ("{}//a//b/", "{}/a/b/", "{}/./a/b/.", "{}/a/x/../b", "{}/a\\b", "{}/a/b")


def check_one_root(written: str, read: str, url: str) -> None:
    """Check that what is written under one spelling is listed, intact and garbage under another."""
    store = Store.open(written)
    RunView(store, "first").record("split", made(store), reused=False)
    made(store, "unused")
    store.backend.write("answers/w1.jsonl", b'{"request": "r1"}\n')
    other = Store.open(read)
    assert other.backend.url == url
    assert run_names(other) == ["first"]
    assert [f.path for f in other.backend.list("answers")] == ["answers/w1.jsonl"]
    assert other.sound("split", "k1") is not None
    assert list(pointers.find_garbage(other, -60).objects) == [("split", "unused")]
    assert other.copies.folder == store.copies.folder


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_of_a_folder_is_consistent(tmp_path: Path, spelling: str) -> None:
    check_one_root(spelling.format(tmp_path), spelling.format(tmp_path), f"{tmp_path}/a/b")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_all_spellings_of_a_folder_are_one_root(tmp_path: Path, spelling: str) -> None:
    check_one_root(f"{tmp_path}/a/b", spelling.format(tmp_path), f"{tmp_path}/a/b")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_of_a_prefix_is_consistent(s3_root: str, spelling: str) -> None:
    check_one_root(spelling.format(s3_root), spelling.format(s3_root), f"{s3_root}/a/b")


@pytest.mark.parametrize("spelling", [*SPELLINGS, "S3:{}/a/b"])
def test_all_spellings_of_a_prefix_are_one_root(s3_root: str, spelling: str) -> None:
    written = spelling.format(s3_root.removeprefix("s3:") if spelling.startswith("S3:") else s3_root)
    check_one_root(f"{s3_root}/a/b", written, f"{s3_root}/a/b")


@pytest.mark.parametrize("slashes", ["//", "\\"])
def test_a_prefix_that_the_service_normalized_for_an_earlier_version_is_found(
    s3_root: str, slashes: str
) -> None:
    """Version 0.1 sent keys with `//` and backslashes as they were; this service stores them under `/`."""
    from core.store.s3 import S3

    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    earlier = S3(f"s3://{bucket}/{prefix}/x")
    earlier._prefix = f"{prefix}{slashes}x"
    earlier.write("answers/w1.jsonl", b"{}\n")
    assert [f.path for f in Store.open(f"{s3_root}{slashes}x").backend.list("answers")] == [
        "answers/w1.jsonl"
    ]


def test_a_root_with_a_backslash_that_an_earlier_version_created_is_found(here: Path) -> None:
    (here / "art\\x").mkdir()
    check_one_root("art\\x", "art\\x", str(here / "art\\x"))
    assert [p.name for p in here.iterdir()] == ["art\\x"]


@pytest.mark.parametrize(
    "root",
    [
        "s3:/bucket/x",
        "s3//bucket/x",
        "s3:bucket",
        "s3:///x",
        "gs:/x",
        "http:/x/y",
        "$HOME/art",
        "${HOME}/art",
        "%USERPROFILE%\\art",
        "C:\\art",
        "~no-such-user/art",
        "file://art",
        "",
        "  ",
        "None",
    ],
)
def test_a_misspelled_root_creates_nothing(here: Path, root: str) -> None:
    for open_store in (Store.open, Store.at):
        with pytest.raises(UserError, match=r"^run\.root: "):
            open_store(root)
    assert list(here.iterdir()) == []


def test_a_misspelled_cache_folder_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.durable import user_cache

    monkeypatch.setenv("UNDERSTUDY_CACHE", "$HOME/cache")
    with pytest.raises(UserError, match=r"^UNDERSTUDY_CACHE: .*not expanded"):
        user_cache()
