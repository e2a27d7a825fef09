"""What all tests share: where real data is, and a skip with its reason where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets (UNDERSTUDY_TEST_DATA, by default ../shared/data)."""
    folder = Path(os.environ.get("UNDERSTUDY_TEST_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set UNDERSTUDY_TEST_DATA")
    return folder
