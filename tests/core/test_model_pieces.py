"""Models in packages: folders, files with a sha256, and files that packages hold in pieces."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core.base_model import ModelSource, resolve_model
from core.errors import ModelError

Publish = Callable[[str, dict[str, bytes]], None]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Installs a distribution with these files."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def write(name: str, files: dict[str, bytes]) -> None:
        about = {f"{name.replace('-', '_')}-1.0.dist-info/METADATA": f"Name: {name}\nVersion: 1.0\n".encode()}
        for path, data in {**files, **about}.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(data)
        record = "".join(f"{path},,\n" for path in files)
        (site / f"{name.replace('-', '_')}-1.0.dist-info/RECORD").write_text(record)

    return write


def archive(folder: str = "") -> bytes:
    """A zip archive with the files of a model, in a folder of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, data in MODEL.items():
            written.writestr(f"{folder}{name}", data)
    return buffer.getvalue()


MODEL = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 40,
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b'{"pooling": "mean"}',
}
WHOLE = archive("all/")
SHA256 = hashlib.sha256(WHOLE).hexdigest()
PIECES = f"package://part-{{01..03}}/part_{{01..03}}/model.zip.{{01..03}}#sha256={SHA256}"


@pytest.fixture
def pieces(publish: Publish) -> str:
    for number in (1, 2, 3):
        cut = WHOLE[(number - 1) * 4000 : number * 4000 if number < 3 else None]
        publish(f"part-0{number}", {f"part_0{number}/model.zip.0{number}": cut})
    return PIECES


def test_a_folder_of_a_package_is_a_model(publish: Publish, tmp_path: Path) -> None:
    publish("encoder", {f"encoder/model/{name}": data for name, data in MODEL.items()})
    for spec in ("package://encoder/encoder/model", "package://encoder/encoder/model/"):
        found = resolve_model(spec, cache=tmp_path / "cache")
        assert found.folder == tmp_path / "site/encoder/model"
        assert found.spec == spec


def test_pieces_are_joined_once_into_the_cache(pieces: str, tmp_path: Path) -> None:
    found = resolve_model(pieces, cache=tmp_path / "cache")
    assert found.folder == tmp_path / "cache/joined" / SHA256[:16] / "all"
    assert {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*.*")} == set(MODEL)
    written = (found.folder / "model.safetensors").stat()
    assert resolve_model(pieces, cache=tmp_path / "cache") == found
    assert (found.folder / "model.safetensors").stat().st_ino == written.st_ino


def test_a_joined_model_that_was_damaged_is_joined_again(pieces: str, tmp_path: Path) -> None:
    found = resolve_model(pieces, cache=tmp_path / "cache")
    (found.folder / "1_Pooling/config.json").unlink()
    (found.folder / "model.safetensors").write_bytes(b"damaged")
    assert resolve_model(pieces, cache=tmp_path / "cache").digest == found.digest
    assert (found.folder / "1_Pooling/config.json").read_bytes() == MODEL["1_Pooling/config.json"]


def test_two_processes_join_a_model_once(pieces: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        found = pool.starmap(_resolved, [(pieces, tmp_path / "cache")] * 4)
    assert len(set(found)) == 1
    assert [p.name for p in (tmp_path / "cache/joined").iterdir() if p.is_dir()] == [SHA256[:16]]


def _resolved(spec: str, cache: Path) -> ModelSource:
    return resolve_model(spec, cache=cache)


def test_pieces_with_another_sha256_are_refused_and_leave_nothing(pieces: str, tmp_path: Path) -> None:
    other = pieces.replace(SHA256, "0" * 64)
    with pytest.raises(ModelError, match=rf"have the sha256 {SHA256}, not 0{{64}}; correct student\.model"):
        resolve_model(other, cache=tmp_path / "cache")
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def test_a_file_with_another_sha256_is_refused(publish: Publish, tmp_path: Path) -> None:
    publish("one", {"one/model.gguf": b"x"})
    with pytest.raises(ModelError, match=f"the file's sha256 is {hashlib.sha256(b'x').hexdigest()}"):
        resolve_model(f"package://one/one/model.gguf#sha256={'1' * 64}", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (PIECES.replace("{01..03}", "{01..04}"), r"the distribution part-04 is not installed"),
        (PIECES.partition("#")[0], r"add the sha256 of the joined file"),
        (PIECES.replace("model.zip.{01..03}", "model.zip.{1..3}"), r"the ranges of pieces differ"),
        (PIECES.replace("{01..03}", "{03..01}"), r"\{03\.\.01\} must count up"),
        (PIECES.replace("{01..03}", "{1..9999}"), r"at most 1000 pieces"),
        (PIECES[:-1], r"what follows # must be sha256= and 64 hexadecimal digits"),
        ("package://part-01/part_01#sha256=" + "0" * 64, r"a folder has no sha256"),
        ("package://part-01/part_02", r"lists no file 'part_02'"),
    ],
)
def test_a_misspelled_list_of_pieces_is_refused(pieces: str, tmp_path: Path, spec: str, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        resolve_model(spec, cache=tmp_path / "cache")
    assert not (tmp_path / "cache/joined").exists() or not list((tmp_path / "cache/joined").glob("[!.]*/"))
