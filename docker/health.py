#!/usr/bin/env python3
"""`health [URL ...]`: ends with 0 where each URL answers with 200, else with 1 and the reason.

Without a URL it looks at what runs in the container: Prefect's server and a worker that was started
with `--with-healthcheck` are asked; a container that runs anything else serves nothing, and is well.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path

TIMEOUT_S = 4.0


def main(addresses: list[str]) -> int:
    """Ask each address, or those of the services that run here; 0 if all are well."""
    reasons = [reason for url in addresses or served() if (reason := failure(url))]
    for reason in reasons:
        print(reason, file=sys.stderr)
    return 1 if reasons else 0


def failure(url: str) -> str | None:
    """Why the address does not answer, or None."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return None if response.status == 200 else f"{url}: status {response.status}"
    except OSError as e:  # refused, timed out, or a status that says no
        return f"{url}: {e}"


def served(processes: Path = Path("/proc")) -> list[str]:
    """The addresses at which the services among the processes tell how they are."""
    server = os.environ.get("PREFECT_SERVER_API_PORT", "4200")
    worker = os.environ.get("PREFECT_WORKER_WEBSERVER_PORT", "8080")
    known = {
        ("prefect", "server", "start"): f"http://127.0.0.1:{server}/api/health",
        ("prefect", "worker", "start", "--with-healthcheck"): f"http://127.0.0.1:{worker}/health",
    }
    running = [words(path) for path in processes.glob("[0-9]*/cmdline")]
    return [url for command, url in known.items() if any(set(command) <= set(line) for line in running)]


def words(path: Path) -> list[str]:
    """A process's command line, programs by their names; empty where the process has ended."""
    try:
        line = path.read_text(errors="replace")
    except OSError:
        return []
    return [word.rpartition("/")[2] for word in line.split("\0")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
