"""`bucket` makes a bucket once, on a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

from tests.docker.reading import DOCKER
from tests.servers.s3 import S3Server


def bucket(server: S3Server, name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **server.environment()}
    command = [sys.executable, str(DOCKER / "bucket.py"), name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_is_made_and_the_second_time_it_is_there(s3_server: S3Server) -> None:
    name = f"made-{uuid.uuid4().hex}"
    assert bucket(s3_server, name).stdout == f"Made the bucket {name}\n"
    s3_server.filesystem().pipe_file(f"{name}/object", b"x")
    assert bucket(s3_server, name).stdout == f"The bucket {name} is there\n"
    assert s3_server.filesystem().cat_file(f"{name}/object") == b"x"


def test_who_may_not_make_it_is_refused(s3_server: S3Server) -> None:
    found = bucket(s3_server.reader, f"made-{uuid.uuid4().hex}")
    assert found.returncode != 0
    assert "AccessDenied" in found.stderr or "Access Denied" in found.stderr
