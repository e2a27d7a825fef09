"""Who holds a lease: this process, told from every other on any machine, and whether one is dead."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any


def writer_id() -> str:
    """A name for one writing of one process, never used twice."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def this_process() -> dict[str, Any]:
    """This process as a lease names it."""
    pid = os.getpid()
    return {"host": platform.node(), "machine": _machine(), "pid": pid, "started": _started(pid)}


def is_dead(holder: Mapping[str, Any]) -> bool:
    """Whether the process is known to be gone: only of this machine's processes can that be known."""
    if holder.get("machine") != _machine():
        return False
    pid = int(holder["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(pid) != holder.get("started") or _is_zombie(pid)


def named(holder: Mapping[str, Any]) -> str:
    """The holder in words."""
    return f"process {holder.get('pid')} on {holder.get('host')}"


@lru_cache
def _machine() -> str:
    """Host, boot and space of process numbers: where a pid means the same process."""
    parts = [platform.node()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        parts.append(boot.read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts)


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _started(pid: int) -> str:
    """The process's start in clock ticks, so that a number used again is not taken for it."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] == "Z"
