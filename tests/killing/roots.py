"""The kinds of root that a driver's trials run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from tests.killing import matrix
from tests.servers import s3

KINDS = ["disk", pytest.param("s3", marks=pytest.mark.slow)]


@contextmanager
def started(
    kind: str,
    folder: Path,
    request: pytest.FixtureRequest,
    *arguments: str,
    module: str = "tests.killing.driver",
) -> Iterator[Popen[str]]:
    """A driver over an empty root of a kind, ended with the block."""
    root, environment = str(folder), dict[str, str]()
    if kind == "s3":
        server: s3.S3Server = request.getfixturevalue("s3_server")
        root, environment = f"s3://{s3.BUCKET}/{module}", server.environment()
    process = matrix.start(root, environment, *arguments, module=module)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
