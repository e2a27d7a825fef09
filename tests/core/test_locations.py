"""Spellings of paths and URLs: normalized to one, or rejected with the setting and the right spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import locations
from core.errors import UserError
from core.locations import absolute, normalized, object_url


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("art//x/", "art/x"),
        ("./art/./x", "art/x"),
        ("art\\x", "art/x"),
        (".\\art\\x\\", "art/x"),
        ("//tmp//x", "/tmp/x"),
        ("file:///tmp//x/", "/tmp/x"),
        ("file:/tmp/x", "/tmp/x"),
        ("file://localhost/tmp/x", "/tmp/x"),
        ("FILE:///tmp/x", "/tmp/x"),
        ("a b/c d.csv", "a b/c d.csv"),
        ("art-1.2_é/x", "art-1.2_é/x"),
        ("v1:2/x.csv", "v1:2/x.csv"),
        ("s3/x", "s3/x"),
        ("data//x", "data/x"),
        ("100%/x", "100%/x"),
        ("cost_in_$", "cost_in_$"),
        ("S3://bucket/x", "s3://bucket/x"),
        ("HTTPS://host/a%C3%A4.csv?$top=1", "https://host/a%C3%A4.csv?$top=1"),
        ("package://dist/a.csv", "package://dist/a.csv"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
    ],
)
def test_spellings_of_one_location_are_normalized(written: str, meant: str) -> None:
    assert normalized(written, creates=True) == meant
    assert normalized(normalized(written)) == meant


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert normalized("~/art") == "/home/me/art"
    assert absolute("file://~/art") == Path("/home/me/art")


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("s3:/bucket/x", "did you mean s3://bucket/x?"),
        ("s3//bucket/x", "did you mean s3://bucket/x?"),
        ("s3:bucket/x", "did you mean s3://bucket/x?"),
        ("s3:\\\\bucket\\x", "did you mean s3://bucket/x?"),
        ("S3:/bucket", "did you mean s3://bucket?"),
        ("s3;//bucket/x", "did you mean s3://bucket/x?"),
        ("s3 ://bucket/x", "did you mean s3://bucket/x?"),
        ("s3:", "did you mean s3://"),
        ("s3:///bucket/x", "did you mean s3://bucket/x?"),
        ("s3://", "names nothing after s3://"),
        ("://bucket/x", "write s3://bucket/prefix"),
        ("gs:/x", "did you mean gs://x?"),
        ("http:/host/x.csv", "did you mean http://host/x.csv?"),
        ("https//host/x.csv", "did you mean https://host/x.csv?"),
        ("dropbox:/x", "did you mean dropbox://x?"),
        ("file:x", "did you mean /x?"),
        ("file://host/x", "write file:///absolute/path"),
        ("$HOME/art", "has $HOME, which is not expanded; write the path itself, or ~"),
        ("${HOME}/art", "has ${HOME}, which is not expanded"),
        ("/scratch/$USER/art", "has $USER, which is not expanded"),
        ("$(pwd)/art", "which is not expanded"),
        ("{{ root }}/art", "which is not expanded"),
        ("<your folder>/art", "has <your folder>, which is not expanded"),
        ("%USERPROFILE%\\art", "has %USERPROFILE%, which is not expanded"),
        ("s3://$BUCKET/x", "has $BUCKET, which is not expanded"),
        ("s3://bucket/${USER}", "has ${USER}, which is not expanded"),
        ("C:\\art", "is a path of Windows"),
        ("d:/art", "is a path of Windows"),
        ("\\\\server\\share", "is a path of Windows"),
        ("~no-such-user/x", "that user has no home folder"),
        ("", "is empty"),
        (" \t", "is empty"),
        (" art", "begins or ends with a space"),
        ("art\n", "control character"),
        ("a\0b", "control character"),
        ("'art'", "write art"),
        ('"s3://bucket/x"', "write s3://bucket/x"),
        ("None", "is not a location"),
        ("null", "is not a location"),
    ],
)
def test_a_misspelled_location_is_rejected_with_its_setting_and_remedy(
    here: Path, written: str, remedy: str
) -> None:
    with pytest.raises(UserError) as caught:
        normalized(written, "run.root", creates=True)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("run.root: ")
    assert remedy in str(caught.value)
    assert list(here.iterdir()) == []


def test_a_file_that_exists_under_an_odd_name_can_be_read(here: Path) -> None:
    for name in ("US$prices.csv", "a\\b.csv", "s3:x.csv", " x"):
        (here / name).write_text("")
        assert normalized(name) == name


def test_misspelled_existing_folder_is_written_only_by_its_explicit_path(here: Path) -> None:
    (here / "s3:/bucket").mkdir(parents=True)
    with pytest.raises(UserError, match=r"folder of this name write \./s3:/bucket"):
        normalized("s3:/bucket", creates=True)
    assert absolute("./s3:/bucket", creates=True) == here / "s3:/bucket"
    (here / "$X").mkdir()
    assert absolute(str(here / "$X/new"), creates=True) == here / "$X/new"
    with pytest.raises(UserError, match="not expanded"):
        normalized("./$Y", creates=True)


def test_a_folder_with_a_backslash_in_its_name_is_still_found(here: Path) -> None:
    (here / "art\\x").mkdir()
    assert absolute("art\\x", creates=True) == here / "art\\x"
    assert absolute("art\\y", creates=True) == here / "art/y"


def test_dots_follow_links_as_the_file_system_does(here: Path) -> None:
    (here / "far/inside").mkdir(parents=True)
    (here / "link").symlink_to(here / "far/inside")
    assert absolute("link/../x") == here / "far/x"
    assert absolute("nothing/../x") == here / "x"
    assert absolute("link/x") == here / "link/x"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket//", "s3://bucket"),
        ("s3://bucket//pre//fix/", "s3://bucket/pre/fix"),
        ("s3://bucket/./pre/../fix", "s3://bucket/fix"),
        ("s3://bucket/pre\\fix\\", "s3://bucket/pre/fix"),
        ("S3://bucket/Pre", "s3://bucket/Pre"),
        ("memory://a//b/", "memory://a/b"),
    ],
)
def test_a_buckets_prefix_has_no_empty_parts(written: str, meant: str) -> None:
    assert object_url(written, "run.root") == meant


@pytest.mark.parametrize("written", ["s3://bucket/../x", "s3://bucket/a/../../x"])
def test_a_prefix_cannot_leave_its_bucket(written: str) -> None:
    with pytest.raises(UserError, match=r"run.root: .* leads out of the bucket"):
        object_url(written, "run.root")


def test_too_long_name_is_handled() -> None:
    assert normalized(f"{'n' * 400}\\x", creates=True) == f"{'n' * 400}/x"


@pytest.mark.parametrize("location", ["s3://bucket/rules", "https://host/rules"])
def test_a_url_is_rejected_where_only_local_files_are_read(location: str) -> None:
    with pytest.raises(UserError, match=r"rules.dir: .* cannot be used here; name a local path"):
        absolute(location, "rules.dir")
    assert locations.scheme(location) in location
