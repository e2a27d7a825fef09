"""Prefect's temporary server outlives a Ctrl-C that ends our processes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest

from flows.environment import detach_temporary_server


def test_the_temporary_server_runs_in_its_own_session(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api import server
    from prefect.settings import PREFECT_API_URL, temporary_settings

    assert "subprocess.Popen(" in inspect.getsource(server.SubprocessASGIServer), (
        "Prefect starts it otherwise"
    )
    monkeypatch.setattr(server, "subprocess", subprocess)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        detach_temporary_server()
    command = [sys.executable, "-c", "import os; print(os.getsid(0))"]
    popen = vars(server)["subprocess"].Popen
    found = popen(command, stdout=subprocess.PIPE, text=True).communicate()[0]
    assert int(found) != os.getsid(0)
