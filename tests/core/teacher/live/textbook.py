"""The texts of the live teacher's tests, and its prompts."""

from __future__ import annotations

from pathlib import Path

from core.config import PromptsConfig, RulesConfig
from core.progress import Silent
from core.prompts import TEXT_SLOT, load_prompts
from core.records import Example
from core.rulebook import load_rulebook
from core.teacher.live import LiveTeacher
from core.teacher.samples import Answered, TeacherLedger
from tests.servers.teacher_answers import invented_label

REPO = Path(__file__).resolve().parents[4]
TEXTS = {f"t{i:02}": f"Text number {i}: shall we meet at the harbour, or at the market?" for i in range(40)}
PROMPTS = load_prompts(PromptsConfig(file=str(REPO / "prompts/default.yaml")))
RULES = load_rulebook(RulesConfig(dir=str(REPO / "rules/sms"))).text
_BEFORE, _, _AFTER = PROMPTS.teacher_messages(TEXT_SLOT, RULES)[-1].content.partition(TEXT_SLOT)
FRAME = (_BEFORE, _AFTER)
"""The words before and after the text in the user message."""


def examples(count: int = 40) -> list[Example]:
    return [Example(name, text, invented_label(text)) for name, text in list(TEXTS.items())[:count]]


def asked(teacher: LiveTeacher, rows: list[Example]) -> list[Answered]:
    return list(teacher.answers(rows, len(rows), Silent()))


def ledger(teacher: LiveTeacher) -> TeacherLedger:
    """The ledger of a teacher that has answered."""
    found = teacher.facts().ledger
    assert found is not None
    return found
