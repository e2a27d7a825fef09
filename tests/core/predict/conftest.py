"""The student of the small project, its texts as a table, and a job."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.engines import Device
from core.export.bundle import open_bundle
from core.predict import Student
from core.predict.job import Job
from core.predict.table_io import TextSource
from tests.small_project import texts


@pytest.fixture
def student(bundle: Path) -> Iterator[Student]:
    """The student, with its model in memory."""
    opened = open_bundle(bundle)
    with Student(opened, opened.sampler("adapter", device=Device("cpu", 1))) as loaded:
        yield loaded


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Sixty texts with ids."""
    path = tmp_path / "new.csv"
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([("id", "text"), *((id_, text) for id_, text, _ in texts())])
    return path


@pytest.fixture
def job(bundle: Path, table: Path, tmp_path: Path) -> Job:
    """The job that answers the table into a CSV file next to it."""
    return Job(bundle, TextSource(str(table), id_column="id"), str(tmp_path / "out.csv"), "csv")
