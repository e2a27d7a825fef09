"""Progress that people see: a line in the log and, within a run, a Prefect progress artifact."""

from __future__ import annotations

import logging
import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from core.progress import BarProgress, describe

log = logging.getLogger(__name__)

_ARTIFACT_EVERY = 5.0
"""Seconds between updates: creating an artifact costs about 60 ms, updating it 10."""


class ArtifactProgress(BarProgress):
    """Writes to the log, moves a bar on a terminal, and fills an artifact's description.

    Prefect's page shows only that text of a progress artifact, so it has counts, rate and time left.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._updated = time.monotonic()
        self._artifact: UUID | None = None

    def update(self, done: int, total: int, note: str = "") -> None:
        super().update(done, total, note)
        rate, now = self.rate(done), time.monotonic()
        if now - self._updated < _ARTIFACT_EVERY and (done < total or self._artifact is None):
            return
        self._updated = now
        text = f"{self.what}: {describe(done, total, rate, note)}"
        share = round(100.0 * done / max(total, 1), 1)
        try:
            if self._artifact is None:
                created = create_progress_artifact(progress=share, description=text)
                assert isinstance(created, UUID)
                self._artifact = created
            else:
                update_progress_artifact(self._artifact, progress=share, description=text)
        except Exception as e:  # what is only shown must not stop what is paid for
            log.warning("the progress of %s could not be shown in Prefect: %s", self.what, e)
