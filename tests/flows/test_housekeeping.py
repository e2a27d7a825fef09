"""`understudy ls`, `rm` and `gc`, without Prefect."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.results import RunResult
from core.store import RunView, Store, pointers, run_names
from tests.core.export.making import with_values
from tests.core.store.making import made, paths
from tests.core.summary.making import metrics
from tests.flows.running import understudy

ON_DISK = pytest.mark.parametrize("root", ["disk"], indirect=True)
ON_BOTH = pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)


def ran(store: Store, name: str, state: str = "finished") -> None:
    """A run of one object."""
    view = RunView(store, name)
    view.record("split", made(store), reused=False)
    view.note_state(state)
    student = with_values(metrics(), macro_f1=0.75, auroc=None, log_loss=0.4)
    result = RunResult(run_dir=f"runs/{name}", best_step=40, test={"student": student})
    view.write_json("run_summary.json", result.to_json())


@ON_DISK
def test_housekeeping_needs_neither_prefect_nor_torch(store: Store) -> None:
    ran(store, "a")
    code = (
        "import sys; from flows.cli import main\n"
        "for arguments in (['ls'], ['gc', '--delete'], ['rm', 'a']):\n"
        f"    try: main([*arguments, '--root', {store.backend.url!r}])\n"
        "    except SystemExit as e: assert e.code == 0, e.code\n"
        "print({'prefect', 'torch', 'transformers', 'pandas'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "set()"
    assert run_names(store) == []


@ON_BOTH
def test_ls_shows_a_table(store: Store, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    ran(store, "a")
    ran(store, "b", "running")
    pointers.publish(store, "a", {"run_dir": "runs/a"}, [])
    assert understudy("ls", "--root", root) == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["run", "state", "at", "size", "step", "macro-F1", "AUROC", "log", "loss"]
    assert [row[:2] for row in rows] == [["a", "finished"], ["b", "died"]]
    assert rows[0][-5:] == ["40", "0.750", "-", "0.400", "latest"]
    assert rows[1][-4:] == ["40", "0.750", "-", "0.400"]


@ON_DISK
def test_ls_as_json_has_every_field_with_one_line_per_run(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(store, "a")
    assert understudy("ls", "--json", "--root", root) == 0
    (entry,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert entry["name"] == "a"
    assert entry["state"] == "finished"
    assert entry["metrics"] == {"macro_f1": 0.75, "auroc": None, "log_loss": 0.4}
    assert set(entry) == {
        "name", "state", "at", "bytes", "stages", "best_step", "metrics", "latest", "error",
    }  # fmt: skip


def test_a_missing_root_is_reported_as_empty_and_not_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert understudy("ls", "--root", str(tmp_path / "none")) == 0
    assert capsys.readouterr().out == f"no runs under {tmp_path / 'none'}\n"
    assert understudy("ls", "--json", "--root", str(tmp_path / "none")) == 0
    assert capsys.readouterr().out == ""
    assert understudy("gc", "--root", str(tmp_path / "none")) == 0
    assert understudy("gc", "--delete", "--root", str(tmp_path / "none")) == 0
    assert understudy("rm", "a", "--root", str(tmp_path / "none")) == 2
    assert not (tmp_path / "none").exists()


@ON_DISK
def test_rm_lists_what_it_removed_and_rejects_unknown_and_latest_runs(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(store, "a")
    pointers.publish(store, "a", {"run_dir": "runs/a"}, [])
    assert understudy("rm", "b", "--root", root) == 2
    assert f"error: run b does not exist under {root}; existing runs: a" in capsys.readouterr().err
    assert understudy("rm", "a", "--root", root) == 2
    assert "or add --force to remove that pointer too" in capsys.readouterr().err
    assert understudy("rm", "a", "--force", "--root", root) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == ["removed model/a.json", "removed model/latest.json", f"removed {root}/runs/a"]
    assert paths(store, "runs") == []


@ON_DISK
def test_rm_of_an_active_run_is_rejected(store: Store, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    ran(store, "a", "running")
    with store.lease("runs/a", "run a"):
        assert understudy("rm", "a", "--root", root) == 2
    assert "error: run a is running; stop it first" in capsys.readouterr().err


@ON_BOTH
def test_gc_removes_only_with_delete_and_nothing_young(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(store, "a")
    made(store, "unused")
    before = paths(store, "")
    for arguments in ([], ["--delete"]):
        assert understudy("gc", *arguments, "--root", root) == 0
        assert "0 objects and 0 files left behind, 0 B" in capsys.readouterr().out
    assert understudy("gc", "--grace", "0", "--root", root) == 0
    out = capsys.readouterr().out
    assert "split unused" in out
    assert "1 objects and 0 files left behind" in out
    assert out.splitlines()[-1].endswith(": would be removed (--delete does it)")
    assert paths(store, "") == before
    assert understudy("gc", "--grace", "0", "--delete", "--root", root) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(": removed")
    assert [p for p in paths(store, "") if "unused" in p] == []
    assert store.sound("split", "k1") is not None


@pytest.mark.parametrize("grace", ["-1", "soon"])
def test_an_invalid_grace_is_rejected(capsys: pytest.CaptureFixture[str], grace: str) -> None:
    assert understudy("gc", "--grace", grace) == 2
    assert "Invalid value for '--grace'" in capsys.readouterr().err


def test_a_root_with_an_unknown_scheme_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["ls"], ["gc"], ["rm", "a"]):
        assert understudy(*command, "--root", "gs://bucket/x") == 2
        assert "error: run.root: gs://bucket/x: only folders and s3://" in capsys.readouterr().err


@ON_DISK
def test_gc_works_on_a_full_disk(store: Store, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(store, "a")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert understudy("rm", "a", "--root", root) == 0
    assert understudy("gc", "--delete", "--grace", "0", "--root", root) == 0
    assert paths(store, "") == []
