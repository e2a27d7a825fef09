"""Progress in the log and as bars: counts, notes between units, and bars only on a terminal."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from core.progress import LogProgress, NotedProgress


class Heard:
    """Records all updates."""

    def __init__(self) -> None:
        self.all: list[tuple[int, int, str]] = []

    def update(self, done: int, total: int, note: str = "") -> None:
        self.all.append((done, total, note))


def test_notes_between_units_have_the_last_counts() -> None:
    heard = Heard()
    progress = NotedProgress(heard, 4, 9)
    progress.note("waiting for step 5")
    progress.update(5, 9, "loss 0.4")
    progress.note("waiting for step 6")
    assert heard.all == [(4, 9, "waiting for step 5"), (5, 9, "loss 0.4"), (5, 9, "waiting for step 6")]


def test_end_is_logged_once_and_later_waits_rarely(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = LogProgress("export", every=60)
    for note in ("", "waiting for completions for 1 s", "waiting for completions for 2 s"):
        progress.update(24, 24, note)
    assert [r.getMessage() for r in caplog.records if r.name == "core.progress"] == ["export: 24/24 (100 %)"]


REPO = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, time
from core.progress import BarProgress
from flows.cli.console import start_log
start_log("INFO")
progress = BarProgress("export", every=0)
for done in range(1, 6):
    time.sleep(0.12)
    progress.update(done, 5, f"loss {done}")
    logging.getLogger("core.somebody").info("a line in between")
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "90"}


def on_a_terminal() -> str:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 90))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment(), stderr=theirs)
    os.close(theirs)
    out = b""
    while True:
        try:
            read = os.read(ours, 4096)
        except OSError:  # the terminal is gone with the process
            break
        if not read:
            break
        out += read
    assert process.wait() == 0
    os.close(ours)
    return out.decode()


def test_terminal_shows_a_bar_and_separate_log_lines() -> None:
    shown = on_a_terminal()
    assert "export" in shown
    assert "5/5" in shown
    assert "loss 5" in shown
    assert shown.count("\r") > 5
    between = [line for line in shown.replace("\r", "\n").splitlines() if "a line in between" in line]
    assert len(between) == 5
    assert all(line.endswith("INFO a line in between") for line in between)
    # The bar's content is not logged as a line too.
    assert "INFO export:" not in shown


def test_pipe_shows_lines_without_a_bar() -> None:
    run = [sys.executable, "-c", PROGRAM]
    shown = subprocess.run(run, env=environment(), stderr=subprocess.PIPE, text=True, check=True).stderr
    assert "\r" not in shown
    assert "%|" not in shown
    assert "INFO export: 5/5 (100 %)" in shown
