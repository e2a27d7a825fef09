"""A base model is found by its name; errors name the place and a remedy."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.base_model import ModelSource, convert_gguf, file_digest, resolve_model
from core.durable import whole_folder
from core.errors import ModelError
from tests.core.engines.local.conftest import MakeModel


def test_a_folder_is_used_in_place(make_model: MakeModel, tmp_path: Path) -> None:
    source = make_model("llama")
    again = resolve_model(str(source.folder), cache=tmp_path)
    assert (again.folder, again.spec, again.digest) == (source.folder, str(source.folder), source.digest)


def test_the_digest_depends_on_contents_not_on_the_folder(make_model: MakeModel, tmp_path: Path) -> None:
    source = make_model("llama")
    copy = tmp_path / "copy"
    shutil.copytree(source.folder, copy)
    assert resolve_model(str(copy), cache=tmp_path / "cache").digest == source.digest
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert resolve_model(str(copy), cache=tmp_path / "cache").digest != source.digest


def test_the_digest_depends_on_the_configuration(make_model: MakeModel, tmp_path: Path) -> None:
    source = make_model("llama")
    copy = tmp_path / "copy"
    shutil.copytree(source.folder, copy)
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    assert resolve_model(str(copy), cache=tmp_path / "cache").digest != source.digest


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("package://no-such-package/model.gguf", r"no-such-package is not installed.*correct student\.model"),
        ("package://pytest/modle.gguf", r"lists no file 'modle\.gguf'"),
        ("/no/such/folder", r"nothing is at /no/such/folder.*student\.model"),
        ("./missing.gguf", r"nothing is at .*/missing\.gguf"),
    ],
)
def test_a_model_that_is_not_found_is_an_error_with_a_remedy(spec: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_model(spec, cache=tmp_path)


def test_a_folder_without_a_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve_model(str(tmp_path), cache=tmp_path)


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff"])
def test_a_config_that_cannot_be_read_is_named(make_model: MakeModel, tmp_path: Path, data: bytes) -> None:
    folder = shutil.copytree(make_model("llama").folder, tmp_path / "model")
    (folder / "config.json").write_bytes(data)
    with pytest.raises(ModelError, match=r"model/config\.json cannot be read .*name a folder"):
        resolve_model(str(folder), cache=tmp_path / "cache")


def test_truncated_weights_are_named(make_model: MakeModel, tmp_path: Path) -> None:
    from core.engines.local import LocalEngine

    folder = shutil.copytree(make_model("llama").folder, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ModelError, match=r"base model .* cannot be loaded .*check its files"):
        LocalEngine(resolve_model(str(folder), cache=tmp_path / "cache"), device="cpu").sampler(None)


def test_a_wrong_file_name_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "Small-Model.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match=r"nearest: Small-Model\.gguf"):
        resolve_model(str(tmp_path / "Smal-Model.gguf"), cache=tmp_path)


def test_a_file_that_is_not_gguf_is_rejected_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="cannot be read as a GGUF model"):
        resolve_model(str(broken), cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()]


def test_the_hub_token_is_read_from_any_of_its_variables(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel, tmp_path: Path
) -> None:
    asked: list[tuple[str, str | None]] = []

    def download(spec: str, *, token: str | None, allow_patterns: list[str]) -> str:
        asked.append((spec, token))
        return str(make_model("llama").folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HUGGINGFACE_HUB_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, f"value of {name}")
        resolve_model("some/model", cache=tmp_path)
    assert asked == [("some/model", "value of HUGGINGFACE_HUB_TOKEN"), ("some/model", "value of HF_TOKEN")]


def test_an_unreachable_hub_is_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download(spec: str, **_: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelError, match=r"some/model.*no route.*name a local folder") as caught:
        resolve_model("some/model", cache=tmp_path)
    assert caught.value.exit_code == 2


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "model"

    def killed() -> None:
        with whole_folder(final) as part:
            (part / "weights").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        killed()
    assert not final.exists()
    (tmp_path / ".part-model-killed").mkdir()
    with whole_folder(final) as part:
        (part / "weights").write_text("whole")
    assert (final / "weights").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_finding_a_model_does_not_import_torch(make_model: MakeModel, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from core.base_model import resolve_model;"
        "from core.engines.local import LocalEngine;"
        f"resolve_model({str(make_model('llama').folder)!r}, cache=Path({str(tmp_path)!r}));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel
) -> None:
    from core.engines.local import LocalEngine

    engine = LocalEngine(make_model("llama"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'understudy-distill\[local\]'"):
        engine.sampler(None)


def test_the_real_model_has_what_the_quickstart_needs(smollm2: ModelSource) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
    assert [tokenizer.encode(label) for label in ("0", "1")] == [[32], [33]]
    assert tokenizer.chat_template


@pytest.mark.parametrize("damage", ["", "0" * 64, "\ud800", None])
def test_a_damaged_digest_cache_entry_is_ignored(tmp_path: Path, damage: str | None) -> None:
    model, cache = tmp_path / "model.bin", tmp_path / "cache"
    model.write_bytes(b"weights")
    digest = file_digest(model, cache)
    (note,) = (cache / "file-digests").iterdir()
    if damage is None:
        note.unlink()
        note.mkdir()
    else:
        note.write_text(damage, encoding="utf-8", errors="surrogatepass")
    assert file_digest(model, cache) == digest
    assert file_digest(model, cache) == digest


def test_a_files_digest_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    digest = file_digest(model, tmp_path / "cache")

    def refused(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("core.jsonio.file_digest", refused)
    assert file_digest(model, tmp_path / "cache") == digest


def replaced_by_rename(model: Path, other: bytes) -> None:
    """As `cp -p` to another name and `mv` do."""
    new = model.with_name("new")
    new.write_bytes(other)
    shutil.copystat(model, new)
    new.replace(model)


def replaced_in_place(model: Path, other: bytes) -> None:
    """As `rsync --inplace --times` does: the inode is the same."""
    stat = model.stat()
    model.write_bytes(other)
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replaced_by_link(model: Path, other: bytes) -> None:
    """A link to another file with the same times, in place of the file."""
    new = model.with_name("new")
    new.write_bytes(other)
    shutil.copystat(model, new)
    model.unlink()
    model.symlink_to(new)


REPLACED = (replaced_by_rename, replaced_in_place, replaced_by_link)


@pytest.mark.parametrize("replace", REPLACED)
@pytest.mark.parametrize("size", [7, 5_000_000])
def test_another_file_of_the_same_size_and_time_has_its_own_digest(
    tmp_path: Path, replace: Callable[[Path, bytes], None], size: int
) -> None:
    model, cache = tmp_path / "model.bin", tmp_path / "cache"
    model.write_bytes(b"a" * size)
    before = model.stat()
    assert file_digest(model, cache) == hashlib.sha256(b"a" * size).hexdigest()
    other = b"a" * (size // 2) + b"b" + b"a" * (size - size // 2 - 1)
    replace(model, other)
    after = model.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert file_digest(model, cache) == hashlib.sha256(other).hexdigest()


@pytest.mark.parametrize("replace", REPLACED)
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_model_file_replaced_at_the_same_size_and_time_changes_the_digest(
    make_model: MakeModel, tmp_path: Path, name: str, replace: Callable[[Path, bytes], None]
) -> None:
    folder = shutil.copytree(make_model("llama").folder, tmp_path / "model")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    first = resolve_model(str(folder), cache=tmp_path / "cache").digest
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    replace(folder / name, bytes(content))
    assert resolve_model(str(folder), cache=tmp_path / "cache").digest != first


@pytest.mark.parametrize("replace", REPLACED)
def test_a_gguf_replaced_at_the_same_size_and_time_is_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path, bytes], None]
) -> None:
    def converted(path: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(path.read_bytes())
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr("core.base_model._convert", converted)
    source, cache = tmp_path / "model.gguf", tmp_path / "cache"
    source.write_bytes(b"first")
    first = convert_gguf(source, cache)
    replace(source, b"other")
    second = convert_gguf(source, cache)
    assert second != first
    assert (second / "model.safetensors").read_bytes() == b"other"


def test_a_digest_cached_by_version_0_1_is_ignored(tmp_path: Path) -> None:
    model, cache = tmp_path / "model.bin", tmp_path / "cache"
    model.write_bytes(b"weights")
    stat = model.stat()
    named = f"{model.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    note = cache / "file-digests" / hashlib.sha256(named.encode()).hexdigest()
    note.parent.mkdir(parents=True)
    stale = hashlib.sha256(b"earlier").hexdigest()
    note.write_text(f"{stale} {hashlib.sha256(f'{named}{stale}'.encode()).hexdigest()}")
    assert file_digest(model, cache) == hashlib.sha256(b"weights").hexdigest()


def test_an_unwritable_cache_is_no_error(tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    digest = file_digest(model, tmp_path / "cache")
    assert file_digest(model, model / "no-folder") == digest


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "converted.json"])
@pytest.mark.parametrize("data", [None, b"", b"altered"])
def test_a_damaged_converted_model_is_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes | None
) -> None:
    times: list[Path] = []

    def converted(path: Path, folder: Path) -> None:
        times.append(path)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr("core.base_model._convert", converted)
    source, cache = tmp_path / "model.gguf", tmp_path / "cache"
    source.write_bytes(b"gguf")
    folder = convert_gguf(source, cache)
    assert convert_gguf(source, cache) == folder
    assert len(times) == 1
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    assert convert_gguf(source, cache) == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert (folder / "config.json").read_text() == "{}"
    assert len(times) == 2
