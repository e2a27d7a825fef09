"""The run's train.log."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from core.errors import UnderstudyError
from core.store import RunView, explained

log = logging.getLogger(__name__)

LOG = "train.log"
_UPLOAD_EVERY = 30.0
"""Seconds between two uploads of the log to a remote root."""
OURS = ("core", "tasks", "flows")


class RunLog(logging.FileHandler):
    """A log on a disk that may be full. Errors of writing it are ignored: the lines are on the terminal,
    too, and the error that reports the full disk matters more."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore it."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def run_log(view: RunView, level: str) -> Iterator[None]:
    """Write our log lines from `level` on to the run's train.log inside the block.

    The error that ends the run is written there as well; on the terminal the command line prints it. Under a
    remote root the file is uploaded every 30 s and when the run ends.
    """
    with _file(view) as path:
        with explained(path, "write"):
            handler = RunLog(path, mode="a", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for logger in map(logging.getLogger, OURS):
            logger.addHandler(handler)
            if logger.level == logging.NOTSET:
                logger.setLevel(level)
        try:
            yield
        except BaseException as e:
            values = {"name": __name__, "levelname": "ERROR", "msg": f"{type(e).__name__}: {e}"}
            handler.handle(logging.makeLogRecord({**values, "levelno": logging.ERROR}))
            raise
        finally:
            for logger in map(logging.getLogger, OURS):
                logger.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def _file(view: RunView) -> Iterator[Path]:
    """The file of the log; that of a remote root is a temporary one, which a thread uploads."""
    folder = view.store.backend.folder
    if folder is not None:
        path = folder / "runs" / view.name / LOG
        with explained(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return

    def upload() -> None:
        try:
            view.write(LOG, path.read_text(encoding="utf-8", errors="replace"))
        except UnderstudyError as e:  # the run matters more than its log
            log.debug("the log was not uploaded: %s", e)

    def keep_uploading() -> None:
        while not ended.wait(_UPLOAD_EVERY):
            upload()

    with tempfile.TemporaryDirectory() as temporary:
        path, ended = Path(temporary) / LOG, threading.Event()
        path.write_text(view.read(LOG) or "", encoding="utf-8")
        thread = threading.Thread(target=keep_uploading, name="train.log", daemon=True)
        thread.start()
        try:
            yield path
        finally:
            ended.set()
            thread.join()
            upload()
