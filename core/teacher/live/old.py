"""Find the token limits under which version 0.1 asked, so that its answers are reused.

A line that version 0.1 stored does not state its request's token limit, which is part of the request's key.
The limit is found again by trying: it is right when the key of some request under it is in the journal.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

from core.completions.journal import Journal
from core.completions.request import TeacherRequest
from core.records import Example
from core.teacher.live.questions import Questions

log = logging.getLogger(__name__)

_ROWS_AT_MOST = 1000
_MISSES_AT_MOST = 3
"""Texts with an old answer under none of the limits, after which no more are tried: the prompt is another."""
_LIMITS = tuple(
    sorted({*range(1, 10_001), *range(10_000, 1_000_001, 100), *range(10_240, 1_048_577, 1024)}),
)
"""Every limit up to 10,000, and round ones above; about 10 microseconds each."""


def find_old_limits(questions: Questions, rows: Iterable[Example], journal: Journal) -> None:
    """Add to `journal.old_limits` what the answers to these texts show. Does nothing without old answers."""
    if not journal.old_formats:
        return
    texts, seen, misses = journal.old_texts(), 0, 0
    for example in rows:
        if example.id not in texts:
            continue
        found = _limits_of(questions.first_request(example), journal)
        if found - journal.old_limits:
            log.info("answers of version 0.1 are reused; their token limit was %s", sorted(found))
        journal.old_limits |= found
        seen, misses = seen + 1, 0 if found else misses + 1
        if seen == _ROWS_AT_MOST or misses == _MISSES_AT_MOST:
            return


def _limits_of(request: TeacherRequest, journal: Journal) -> frozenset[int]:
    """The limits under which version 0.1 sent a request; of those known already, not all where one fits."""
    forms = [dataclasses.replace(request, output_format=name) for name in sorted(journal.old_formats)]
    for limits in (sorted(journal.old_limits | {request.max_tokens}), _LIMITS):
        keys = ((limit, key) for form in forms for limit, key in form.keys_by_limit(limits))
        if found := frozenset(limit for limit, key in keys if journal.has(key)):
            return found
    return frozenset()
