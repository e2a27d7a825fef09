"""Results are read by attributes and not by string keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.measures import subscripts
from tests.measures.subscripts import Place


@pytest.mark.parametrize("package", subscripts.PACKAGES)
def test_no_result_is_read_by_a_string_key(package: str) -> None:
    assert [*map(str, subscripts.subscripts(package))] == []


@pytest.mark.parametrize("package", subscripts.PACKAGES)
def test_no_untyped_mapping_crosses_the_boundary(package: str) -> None:
    assert [*map(str, subscripts.untyped(package))] == []


def test_what_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscripts, "REPO", tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "code.py").write_text(
        "from typing import Any, Literal\n"
        "kind: Literal['a']\n"
        "def public(row: dict[str, Any], name: str) -> int:\n"
        "    return row['rows'] + row.get('more', 0) + row[name]\n"
        "def _private(row: dict[str, Any]) -> None:\n"
        "    row['rows'] = 1\n",
        encoding="utf-8",
    )
    read = subscripts.subscripts("some")
    assert sorted(p.text for p in read) == ["row.get('more', 0)", "row['rows']", "row['rows']"]
    assert subscripts.untyped("some") == [Place("some/code.py", 3, "public: dict[str, Any]")]
