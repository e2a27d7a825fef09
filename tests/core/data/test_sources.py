from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from core.data import sources
from core.errors import DataError, PassingError, UserError

Write = Callable[..., Path]


def unpacked(url: str) -> bytes:
    """All bytes of a file."""
    with sources.opened(url) as file:
        return file.read()


def test_a_relative_path_is_relative_to_the_working_directory(write: Write) -> None:
    write("a")
    assert unpacked("data.csv") == b"a"


def test_an_absolute_path_a_url_and_a_package_are_read_alike(write: Write) -> None:
    path = write("a")
    fsspec.filesystem("memory").pipe_file("/sources/data.csv", b"a")
    assert unpacked(str(path)) == b"a"
    assert unpacked(f"file://{path}") == b"a"
    assert unpacked("memory://sources/data.csv") == b"a"
    assert unpacked("package://click/click/__init__.py").startswith(b'"""')


def test_missing_file_is_reported_with_its_absolute_path_and_near_names(write: Write, tmp_path: Path) -> None:
    write("a", "dataset/messages.csv")
    with pytest.raises(DataError) as e:
        sources.read_bytes("dataset/message.csv")
    assert str(e.value) == (
        f"file {tmp_path}/dataset/message.csv does not exist "
        f"('dataset/message.csv' is relative to the working directory); its folder holds messages.csv"
    )


def test_missing_remote_object_is_reported_with_its_url() -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/messages.csv", b"a")
    with pytest.raises(DataError) as e:
        sources.read_bytes("memory://bucket/message.csv")
    assert str(e.value) == "file memory://bucket/message.csv does not exist; its folder holds messages.csv"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftq://host/a.csv", "ftq://host/a.csv cannot be opened: Protocol not known: ftq"),
        (
            "package://click/nothing.csv",
            "package://click/nothing.csv: the package click lists no file 'nothing.csv'",
        ),
    ],
)
def test_unusable_url_is_rejected(url: str, sentence: str) -> None:
    with pytest.raises(UserError) as e:
        sources.read_bytes(url)
    assert str(e.value).startswith(sentence)


def test_folder_instead_of_a_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder; name a file, or set data.dir"):
        sources.read_bytes(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "kind", "what"),
    [
        (type("NoCredentialsError", (Exception,), {}), DataError, "cannot be read"),
        (type("ConnectError", (Exception,), {}), PassingError, "could not be reached"),
    ],
)
def test_error_of_a_storage_client_is_reported(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], kind: type[Exception], what: str
) -> None:
    def fail(self: object, path: str) -> bytes:
        raise error("no luck")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", fail)
    with pytest.raises(kind) as e:
        sources.read_bytes("memory://bucket/a.csv")
    assert str(e.value) == f"memory://bucket/a.csv {what}: {error.__name__}: no luck"
