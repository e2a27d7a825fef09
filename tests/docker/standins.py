"""Images for where none can be pulled: Debian with its own Python and PostgreSQL, from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.docker.engine import Engine

HERE = Path(__file__).resolve().parent / "standins"
PYTHON = "localhost/understudy-check-python:bookworm"
POSTGRES = "localhost/understudy-check-postgres:15"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def python_image(engine: Engine) -> str:
    """PYTHON_IMAGE where it is set, else Debian's Python 3.11, made once."""
    named = os.environ.get("PYTHON_IMAGE")
    if named:
        return named
    if PYTHON not in engine.podman("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"):
        _import_debian(engine)
    return PYTHON


def postgres_image(engine: Engine, python: str) -> str:
    """POSTGRES_IMAGE where it is set, else Debian's PostgreSQL in the manner of the official image."""
    named = os.environ.get("POSTGRES_IMAGE")
    if named:
        return named
    file = str(HERE / "postgres.Dockerfile")
    build = ["build", "--network", "host", "--format", "docker", "--build-arg", f"PYTHON_IMAGE={python}"]
    engine.podman(*build, "--file", file, "--tag", POSTGRES, str(HERE))
    return POSTGRES


def _import_debian(engine: Engine) -> None:
    root = engine.folder / "debian"
    packages = "--include=python3,python3-venv,ca-certificates"
    subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", str(root)], check=True)
    # Whom this machine trusts, so that the build reaches the same indexes.
    shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    archive = engine.folder / "debian.tar"
    skipped = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*"]
    subprocess.run(["tar", "-C", str(root), *skipped, "-cf", str(archive), "."], check=True)
    engine.podman("import", "--change", f"ENV PIP_CERT={CERTIFICATES}", str(archive), PYTHON)
