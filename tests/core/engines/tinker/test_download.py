"""A downloaded adapter is complete, loads with every trained module, and scores as on the server."""

from __future__ import annotations

import json
import tarfile
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from core import jsonio
from core.engines import AdamParams, Checkpoint, Datum, Device, LoraSpec, score_differences
from core.engines.local import LocalEngine, check_fits, open_peft
from core.engines.tinker import TinkerEngine, checkpoints, sampler
from core.engines.tinker.checkpoints import CONFIG, RECORD, WEIGHTS, complete, fetch, unpack
from core.errors import CheckpointGone, ModelError, PassingError, StageError
from tests.servers import tinker
from tests.servers.tinker_orders import Damage, FaultKind

Rows = list[tuple[int, ...]]


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow downloads of four megabytes."""
    monkeypatch.setattr(checkpoints, "LARGEST", 4 << 20)


@pytest.fixture
def saved(
    engine: TinkerEngine, lora: LoraSpec, adam: AdamParams, batches: list[list[Datum]], folder: Path
) -> Checkpoint:
    session = engine.open(lora, None)
    for step in range(3):
        session.submit(batches[step], adam, step=step)
    return session.save(folder, step=3)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "run" / "adapter"


def test_a_download_has_pefts_two_files_with_checksums(
    engine: TinkerEngine, saved: Checkpoint, target: Path
) -> None:
    adapter = engine.download_adapter(saved, target)
    assert sorted(path.name for path in target.iterdir()) == sorted([CONFIG, WEIGHTS, RECORD])
    assert adapter.files == {name: jsonio.file_digest(target / name) for name in (CONFIG, WEIGHTS)}
    assert adapter.bytes == sum((target / name).stat().st_size for name in (CONFIG, WEIGHTS))
    assert json.loads((target / RECORD).read_text())["files"] == adapter.files
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_downloaded_adapter_loads_with_every_trained_module(
    engine: TinkerEngine, local: LocalEngine, lora: LoraSpec, saved: Checkpoint, target: Path
) -> None:
    engine.download_adapter(saved, target)
    # Seven linear layers in each of two decoder layers, two matrices each.
    assert check_fits(target, local.local_model, lora) == 28


def test_missing_target_modules_are_derived_from_the_weights(
    engine: TinkerEngine, local: LocalEngine, lora: LoraSpec, saved: Checkpoint, target: Path
) -> None:
    assert engine.download_adapter(saved, target).completed == ()
    config = json.loads((target / CONFIG).read_text())
    jsonio.write_json(target / CONFIG, {**config, "target_modules": None})
    with pytest.raises(ModelError, match="does not match what peft loads by its configuration"):
        check_fits(target, local.local_model, lora)
    assert complete(target / CONFIG, target / WEIGHTS) == ("target_modules",)
    assert check_fits(target, local.local_model, lora) == 28
    known = json.loads((target / CONFIG).read_text())
    assert {**known, "target_modules": None} == {**config, "target_modules": None}


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_files_in_another_layout_are_rejected(
    engine: TinkerEngine, saved: Checkpoint, target: Path, file: str
) -> None:
    engine.download_adapter(saved, target)
    (target / CONFIG).write_text("{}")
    (target / file).write_bytes(b"\x02" + bytes(7) + b"[]")
    with pytest.raises(StageError, match=f"the server's {file} cannot be read"):
        complete(target / CONFIG, target / WEIGHTS)


@pytest.mark.parametrize("switch", ["train_mlp", "train_attention"])
def test_an_adapter_of_other_modules_is_rejected(
    engine: TinkerEngine, local: LocalEngine, lora: LoraSpec, folder: Path, target: Path, switch: str
) -> None:
    less = replace(lora, train_mlp=switch != "train_mlp", train_attention=switch != "train_attention")
    engine.download_adapter(engine.open(less, None).save(folder, step=0), target)
    check_fits(target, local.local_model, less)
    with pytest.raises(ModelError, match="does not match the modules that were trained: missing"):
        check_fits(target, local.local_model, lora)


def test_a_downloaded_adapter_scores_as_on_the_server(
    engine: TinkerEngine,
    local: LocalEngine,
    saved: Checkpoint,
    target: Path,
    prompts: Rows,
    choices: Rows,
) -> None:
    engine.download_adapter(saved, target)
    remote, base = (engine.sampler(ref).score(prompts, choices) for ref in (saved.sampler, None))
    here = open_peft(local.local_model, target, Device("cpu")).score(prompts, choices)
    found = score_differences(remote, here)
    assert list(found) == list(range(len(prompts)))
    assert max(found.values()) < 1e-3
    assert max(score_differences(base, here).values()) > 0.1


def test_score_differences_leave_out_failed_and_bounded_rows(
    monkeypatch: pytest.MonkeyPatch,
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    local: LocalEngine,
    prompts: Rows,
    choices: Rows,
) -> None:
    server.score_targets(False)
    monkeypatch.setattr(sampler, "TOP_K", 120)
    forms = [c[-1:] for c in choices[:2]]
    found = score_differences(*(e.sampler(None).score(prompts, forms) for e in (engine, local)))
    assert 0 < len(found) < len(prompts)
    assert max(found.values()) < 1e-3


def test_the_folder_must_be_new_and_stays_absent_after_a_failure(
    engine: TinkerEngine, server: tinker.TinkerServer, saved: Checkpoint, target: Path
) -> None:
    server.fail("server_failure", on="save_weights_external", first=1)
    with pytest.raises(PassingError, match="saving the adapter for download"):
        engine.download_adapter(saved, target)
    assert list(target.parent.iterdir()) == []
    engine.download_adapter(saved, target)
    with pytest.raises(StageError, match="already exists"):
        engine.download_adapter(saved, target)


def test_a_checkpoint_that_expired_cannot_be_downloaded(
    engine: TinkerEngine, saved: Checkpoint, target: Path
) -> None:
    engine.remove(saved.state.location)
    with pytest.raises(CheckpointGone, match="no longer has"):
        engine.download_adapter(saved, target)


OTHERS = {
    "member_outside": "../extra.bin",
    "member_absolute": "/tmp/extra.bin",
    "member_link": "extra.bin",
    "member_oversize": "extra.bin",
}


@pytest.mark.parametrize("kind", ["member_outside", "member_absolute", "member_oversize"])
def test_other_files_are_listed_and_not_downloaded(
    engine: TinkerEngine, server: tinker.TinkerServer, saved: Checkpoint, target: Path, kind: Damage
) -> None:
    server.fail(kind, on="external_weights_urls", first=1, bytes=64 << 20)
    assert engine.download_adapter(saved, target).left_out == (OTHERS[kind],)
    assert sorted(path.name for path in target.iterdir()) == sorted([CONFIG, WEIGHTS, RECORD])
    assert list(target.parent.iterdir()) == [target]


def test_more_bytes_than_allowed_are_not_downloaded(
    monkeypatch: pytest.MonkeyPatch, engine: TinkerEngine, saved: Checkpoint, target: Path
) -> None:
    monkeypatch.setattr(checkpoints, "LARGEST", 5000)
    with pytest.raises(StageError, match="is larger than 5000 bytes"):
        engine.download_adapter(saved, target)
    assert list(target.parent.iterdir()) == []


@pytest.fixture
def archive_url(server: tinker.TinkerServer, saved: Checkpoint) -> str:
    """The link to a checkpoint's archive, as SDKs before 0.38 receive it."""
    run, kind, name = saved.sampler.location.removeprefix("tinker://").split("/")
    url = f"{server.base_url}/api/v1/training_runs/{run}/checkpoints/{kind}/{name}/archive"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": tinker.KEY})) as reply:
        return str(reply.url)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_an_archive_is_unpacked(archive_url: str, tmp_path: Path, out: Path) -> None:
    fetch(archive_url, tmp_path / "a.tar", secure=False)
    assert unpack(tmp_path / "a.tar", out) == ()
    assert sorted(path.name for path in out.iterdir()) == sorted([CONFIG, WEIGHTS])


@pytest.mark.parametrize("kind", OTHERS)
def test_only_pefts_files_of_an_archive_are_unpacked(
    server: tinker.TinkerServer,
    archive_url: str,
    tmp_path: Path,
    out: Path,
    kind: Damage,
) -> None:
    server.fail(kind, on="archive_file", first=1, bytes=3 << 20)
    fetch(archive_url, tmp_path / "a.tar", secure=False)
    assert unpack(tmp_path / "a.tar", out) == (OTHERS[kind],)
    assert sorted(path.name for path in out.iterdir()) == sorted([CONFIG, WEIGHTS])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.tar"]


def test_links_and_too_many_bytes_in_an_archive_are_rejected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Path
) -> None:
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / WEIGHTS).symlink_to("/etc/hostname")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / CONFIG, CONFIG)
        tar.add(tmp_path / WEIGHTS, WEIGHTS)
    with pytest.raises(StageError, match=f"{WEIGHTS} is not a plain file"):
        unpack(tmp_path / "a.tar", out)
    monkeypatch.setattr(checkpoints, "LARGEST", 1)
    with pytest.raises(StageError, match="is larger than 1 bytes"):
        unpack(tmp_path / "a.tar", out)
    assert list(out.iterdir()) == []


def test_a_damaged_archive_is_an_error(archive_url: str, tmp_path: Path, out: Path) -> None:
    fetch(archive_url, tmp_path / "a.tar", secure=False)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StageError, match="cannot be unpacked"):
        unpack(tmp_path / "b.tar", out)


def test_a_redirect_is_not_followed(server: tinker.TinkerServer, saved: Checkpoint, tmp_path: Path) -> None:
    run, kind, name = saved.sampler.location.removeprefix("tinker://").split("/")
    url = f"{server.base_url}/api/v1/training_runs/{run}/checkpoints/{kind}/{name}/archive"
    with pytest.raises(StageError, match="redirects to another"):
        fetch(url, tmp_path / "a", secure=False)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "http://x/y"])
def test_only_secure_links_of_a_secure_server_are_followed(url: str, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="which is not followed"):
        fetch(url, tmp_path / "a", secure=True)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_is_a_passing_error(
    server: tinker.TinkerServer, archive_url: str, tmp_path: Path
) -> None:
    kinds: tuple[FaultKind, ...] = ("unavailable", "drop")
    for kind in kinds:
        server.recover()
        server.fail(kind, on="archive_file", first=1)
        with pytest.raises(PassingError, match="the download of a"):
            fetch(archive_url, tmp_path / "a", secure=False)
        (tmp_path / "a").unlink(missing_ok=True)
