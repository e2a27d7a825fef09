"""How the Tinker server fails: which request a fault hits, and what is wrong with a download."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

from aiohttp import web

from tests.servers.tinker_orders import Damage, Delivery, Fault, FaultKind

SUBMITS = frozenset(
    {
        "create_model",
        "load_weights",
        "forward",
        "forward_backward",
        "optim_step",
        "save_weights",
        "save_weights_for_sampler",
        "save_weights_external",
        "asample",
    }
)
DOWNLOADS = frozenset({"external_weights_urls", "archive_file"})
REFUSALS: dict[FaultKind, tuple[int, str]] = {
    "unauthorized": (401, "Invalid API key"),
    "no_balance": (402, "Billing is not set up"),
    "forbidden": (403, "Not allowed"),
    "rate_limited": (429, "Too many requests"),
    "server_error": (500, "Internal server error"),
    "unavailable": (503, "Service unavailable"),
}
EXTRA = "extra.bin"


class Faults:
    """The faults that were told, and how many requests each has met; `before` were told earlier."""

    def __init__(self, told: Sequence[Fault], before: Faults | None = None) -> None:
        self.told = tuple(told)
        self._met = [0] * len(self.told)
        if before is not None and self.told[: len(before.told)] == before.told:
            self._met[: len(before.told)] = before._met

    @property
    def look_at_prompts(self) -> bool:
        return any(fault.prompts is not None for fault in self.told)

    def hit(self, call: str, prompt: str | None = None) -> Fault | None:
        """The first fault that hits a request, by the last part of its path."""
        for i, fault in enumerate(self.told):
            if fault.on not in (None, call) or not _can(fault.kind, call):
                continue
            if fault.prompts is not None and prompt not in fault.prompts:
                continue
            if fault.first is not None and self._met[i] >= fault.after + fault.first:
                continue
            self._met[i] += 1
            if self._met[i] > fault.after:
                return fault
        return None


def _can(kind: FaultKind, call: str) -> bool:
    """Whether a request of this kind can fail so."""
    if kind in ("user_error", "server_failure"):
        return call in SUBMITS
    if kind == "missing_row":
        return call == "asample"
    if kind in get_args(Damage):
        return call in DOWNLOADS
    return kind == "expired_session" or kind in get_args(Delivery) or kind in REFUSALS


def refusal(fault: Fault) -> web.Response | None:
    """The answer of a fault that refuses."""
    found = REFUSALS.get(fault.kind)
    if found is None:
        return None
    status, detail = found
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    return refuse(status, detail, headers)


def refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error with its body."""
    body = json.dumps({"detail": detail}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def archive(files: Collection[Path], fault: Fault | None) -> bytes:
    """A .tar.gz of the files, with what the fault adds."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path in sorted(files):
            tar.add(path, path.name)
        if fault is not None:
            _damage(tar, fault)
    return out.getvalue()


def extra_name(fault: Fault) -> str:
    """What the added file is called."""
    names = {"member_outside": f"../{EXTRA}", "member_absolute": f"/tmp/{EXTRA}"}
    return names.get(fault.kind, EXTRA)


def extra_size(fault: Fault) -> int:
    return fault.bytes if fault.kind == "member_oversize" else 4


def _damage(tar: tarfile.TarFile, fault: Fault) -> None:
    member = tarfile.TarInfo(extra_name(fault))
    if fault.kind == "member_link":
        member.type, member.linkname = tarfile.SYMTYPE, "../../outside"
        tar.addfile(member)
        return
    member.size = extra_size(fault)
    tar.addfile(member, io.BytesIO(bytes(member.size)))
