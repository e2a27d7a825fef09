"""Where recorded answers lie: in a file, or in the folder of a run, this project's or its predecessor's."""

from __future__ import annotations

import json
from dataclasses import dataclass

from core.data import sources
from core.errors import AnswersError, DataError
from core.teacher.answerline import UNNAMED
from core.teacher.parsing import clean

_PHASE = "teacher_phase"
_FILES = ("teacher_samples.jsonl", "accepted_samples.jsonl")
"""All answers, or, where a run took them over from another, those that were accepted."""
_SUMMARY = "teacher_summary.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of answers, and who gave those that do not say."""

    url: str
    model: str = UNNAMED


def source_of(url: str) -> Source:
    """The file that a config's `answers` means. Raises AnswersError for a folder without one."""
    if not sources.is_folder(url):
        return Source(url)
    for folder in (sources.join(url, _PHASE), url):
        for name in _FILES:
            if sources.exists(found := sources.join(folder, name)):
                return Source(found, _model(sources.join(folder, _SUMMARY)))
    wanted = " or ".join(f"{_PHASE}/{name}" for name in _FILES)
    raise AnswersError(
        f"{sources.place(url)} is a folder without {wanted}: name a run's folder, or a file of answers, in "
        "teacher.answers"
    )


def _model(url: str) -> str:
    """Who answered, as the run's summary says; the predecessor's answers do not."""
    try:
        said = json.loads(sources.read_bytes(url))["teacher_model"]
    except (DataError, ValueError, KeyError, TypeError):
        return UNNAMED
    return clean(said.strip()) if isinstance(said, str) and said.strip() else UNNAMED
