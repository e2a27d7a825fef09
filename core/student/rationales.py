"""Rationales given to other texts of the same gold label: the control that tells whether reasons teach."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from core.records import AcceptedSample


def shuffled(samples: Sequence[AcceptedSample], seed: int) -> list[AcceptedSample]:
    """Whose rationale each sample learns, in the order of `samples`: another text's, of its own label.

    Within each label the samples stand in an order that hashes of `seed` and text decide, those of one
    text side by side, and each takes the rationale of the one as many places on as the text with most
    samples has. So no text keeps one of its own unless more than half of its label's samples are its own,
    and then no more than have to.
    """
    donor: dict[str, AcceptedSample] = {}
    for label in sorted({s.label for s in samples}):
        of = sorted((s for s in samples if s.label == label), key=lambda s: _rank(s, seed))
        by = max(Counter(s.text for s in of).values(), default=0)
        donor |= {s.sample_id: of[(i + by) % len(of)] for i, s in enumerate(of)}
    return [donor[s.sample_id] for s in samples]


def _rank(sample: AcceptedSample, seed: int) -> tuple[bytes, str]:
    return hashlib.sha256(f"{seed}:{sample.text}".encode()).digest(), sample.sample_id
