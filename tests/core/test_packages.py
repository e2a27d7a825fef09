from __future__ import annotations

import pytest

from core import packages
from core.errors import UserError

LISTED = "package://click/click/__init__.py"


def test_a_listed_file_is_found_without_importing_its_package() -> None:
    assert packages.find(LISTED).read_bytes()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "package://no-such-thing/a.csv",
            "package://no-such-thing/a.csv: the distribution no-such-thing is not installed; "
            "correct the setting that names it",
        ),
        (
            "package://clik/click/__init__.py",
            "package://clik/click/__init__.py: the distribution clik is not installed (near it: click",
        ),
        ("package:///a.csv", "package:///a.csv names no file of a package; write package://<distribution>/"),
        ("package://click", "package://click names no file of a package; write package://<distribution>/"),
        (
            "package://click/click/__init_.py",
            "package://click/click/__init_.py: the package click lists no file "
            "'click/__init_.py'; near it: click/__init__.py",
        ),
    ],
)
def test_what_is_not_there_is_named_with_a_remedy(url: str, sentence: str) -> None:
    with pytest.raises(UserError) as e:
        packages.find(url)
    assert str(e.value).startswith(sentence)
