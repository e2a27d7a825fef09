"""A root whose answers version 0.1 stored: six texts, and one of the answers cut off at the token limit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.completions.journal import Journal
from core.config import PromptsConfig, TeacherConfig
from core.prompts import TEXT_SLOT, load_prompts
from core.records import Example
from core.store import Store
from core.teacher.live import LiveTeacher
from core.teacher.parsing import LabelNames

FOLDER = Path(__file__).resolve().parents[1] / "data" / "answers_0.1"
BASE_URL = "http://teacher.example/v1"
"""The endpoint is part of a request's key. This host does not exist: tests reach it through HTTP_PROXY."""
MAX_TOKENS = 777
CUT = "m2"
"""The text whose answer is cut off."""
PROMPTS = load_prompts(PromptsConfig(file=str(FOLDER / "prompts.yaml")))
RULES = "R1: An offer of goods or prices is an advertisement."
_BEFORE, _, _AFTER = PROMPTS.teacher_messages(TEXT_SLOT, RULES)[-1].content.partition(TEXT_SLOT)
FRAME = (_BEFORE, _AFTER)
ROWS = [Example(f"m{i}", f"Message {i}: boots for {20 + i} dollars, today only.", i % 2) for i in range(6)]


def copy(root: Path) -> Store:
    """A root with the answers."""
    shutil.copytree(FOLDER / "answers", root / "answers")
    return Store.open(str(root))


def teacher(store: Store, run: str = "r", **config: Any) -> LiveTeacher:
    """A teacher that sends the requests of version 0.1."""
    values = {
        "kind": "openai",
        "base_url": BASE_URL,
        "api_key_env": None,
        "model": "teacher-1",
        "attempts": 2,
        "max_tokens": MAX_TOKENS,
        "prices": None,
        "limits": {"concurrency": 4, "tries": 1},
    }
    names = LabelNames()
    open_journal: Callable[[], Journal] = lambda: Journal.open(store, run)  # noqa: E731
    return LiveTeacher(
        TeacherConfig.model_validate({**values, **config}), PROMPTS, RULES, names, open_journal
    )
