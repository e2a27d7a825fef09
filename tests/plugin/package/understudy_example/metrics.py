"""A metric."""

from __future__ import annotations

from core.evaluation.metrics import Counts, ratio
from core.evaluation.predictions import Floats
from understudy import register_metric


@register_metric("specificity", better="higher", of="counts", undefined="no row is negative", binary=True)
def specificity(k: Counts) -> Floats:
    """The share of negative rows that are predicted negative."""
    return ratio(k.tn, k.tn + k.fp)
