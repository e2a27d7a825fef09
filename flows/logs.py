"""Where log lines go: the terminal, the run's train.log, and, through Prefect, its pages."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from core import progress, progressbar
from core.errors import UnderstudyError
from core.store.disk import explained
from core.store.runs import RunView

log = logging.getLogger(__name__)

LOG = "train.log"
_SEND_EVERY = 30.0
"""Seconds between two copies of the log to a remote root."""
OURS = ("core", "tasks", "flows")


class Terminal(logging.Handler):
    """Writes to whatever stderr is at the moment; tracebacks only where they are asked for."""

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self.tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        """One line; of progress none where a bar shows it."""
        if record.name == progress.__name__ and progressbar.on_terminal():
            return
        if record.exc_info and not self.tracebacks:
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        # A terminal that has gone must not end a run, which its train.log still describes.
        with progressbar.beside(), contextlib.suppress(BrokenPipeError):
            print(self.format(record), file=sys.stderr)  # noqa: T201


class RunLog(logging.FileHandler):
    """A log on a disk that may be full: what cannot be written there is on the terminal anyway,
    and must not stand in front of the sentence that says the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Close, even if the last lines cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


def configure(level: str, *, debug: bool, formatter: logging.Formatter) -> None:
    """Our lines on stderr, from `level` on."""
    handler = Terminal(tracebacks=debug)
    handler.setFormatter(formatter)
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel("DEBUG" if debug else level)
        for old in [h for h in logger.handlers if isinstance(h, Terminal)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False


@contextlib.contextmanager
def run_log(view: RunView, level: str) -> Iterator[None]:
    """Write our lines from `level` on to the run's train.log too, for as long as it lasts.

    What ends the run is written there as well; on the terminal the command line says it. Under a
    remote root the file is sent when the run ends, and every half a minute until then.
    """
    with _file(view) as path, _logging_to(path, level):
        yield


@contextlib.contextmanager
def _file(view: RunView) -> Iterator[Path]:
    folder = view.store.backend.folder
    if folder is not None:
        path = folder / "runs" / view.name / LOG
        with explained(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / LOG
        path.write_text(view.read(LOG) or "", encoding="utf-8")
        with _sent_again_and_again(view, path):
            yield path


@contextlib.contextmanager
def _sent_again_and_again(view: RunView, path: Path) -> Iterator[None]:
    ended = threading.Event()

    def send() -> None:
        try:
            view.write(LOG, path.read_text(encoding="utf-8", errors="replace"))
        except UnderstudyError as e:  # a log must not stand in front of what it is about
            log.debug("the log was not sent: %s", e)

    def keep_sending() -> None:
        while not ended.wait(_SEND_EVERY):
            send()

    thread = threading.Thread(target=keep_sending, name="train.log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        send()


@contextlib.contextmanager
def _logging_to(path: Path, level: str) -> Iterator[None]:
    with explained(path, "write"):
        handler = RunLog(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in OURS:
        logger = logging.getLogger(name)
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
        for name in OURS:
            logging.getLogger(name).removeHandler(handler)
        handler.close()
