"""Reading a student's answer back."""

from __future__ import annotations

import pytest

from core.prompts import TargetWording
from core.student.wording import Said, read_answer

W = TargetWording()


@pytest.mark.parametrize(
    ("raw", "target", "said"),
    [
        ("<label>1</label>\n<reason>why</reason>", "label_first", Said(1, "why")),
        ("<label>0</label>", "label_only", Said(0, None)),
        ("<label> 1 </label>", "label_only", Said(1, None)),
        ("<reason>a\nb</reason>\n<label>0</label>", "reason_first", Said(0, "a\nb")),
        ("<reason>cut", "reason_first", Said(None, None)),
        (
            "<reason>it says <label>1</label></reason>\n<label>0</label>",
            "reason_first",
            Said(0, "it says <label>1</label>"),
        ),
        ("<reason>it says <label>1</label></reason>", "label_first", Said(None, "it says <label>1</label>")),
        ("Sure! <label>1</label>", "label_first", Said(None, None)),
        ("<label>2</label>", "label_only", Said(None, None)),
        ("", "label_only", Said(None, None)),
    ],
)
def test_a_label_counts_only_where_the_target_puts_it(raw: str, target: str, said: Said) -> None:
    assert read_answer(raw, W, target) == said
