"""Bars move in place on a terminal, give way to lines, and are not there in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, time
from core.progress import LogProgress
from core.progress import Bar
from flows.cli import saying
from flows.logs import configure
configure("INFO", debug=False, formatter=saying.formatter())
bar, lines = Bar("export"), LogProgress("export", every=0)
for done in range(1, 6):
    time.sleep(0.12)
    bar.update(done, 5, f"loss {done}")
    lines.update(done, 5, f"loss {done}")
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


def test_on_a_terminal_a_bar_moves_and_lines_stand_by_themselves() -> None:
    said = on_a_terminal()
    assert "export" in said
    assert "5/5" in said
    assert "loss 5" in said
    assert said.count("\r") > 5
    between = [line for line in said.replace("\r", "\n").splitlines() if "a line in between" in line]
    assert len(between) == 5
    assert all(line.endswith("INFO a line in between") for line in between)
    # What the bar shows is no line too.
    assert "INFO export:" not in said


def test_in_a_pipe_there_are_lines_and_no_bar() -> None:
    run = [sys.executable, "-c", PROGRAM]
    said = subprocess.run(run, env=environment(), stderr=subprocess.PIPE, text=True, check=True).stderr
    assert "\r" not in said
    assert "%|" not in said
    assert "INFO export: 5/5 (100 %)" in said
