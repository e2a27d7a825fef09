"""A Prefect server that cannot be used is an error within seconds, with its address and a remedy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.errors import PassingError, UnderstudyError, UserError
from flows import environment
from tests.flows.running import understudy
from tests.small_project import write_project

WITHIN_S = 15.0


@contextmanager
def answering(status: int, body: bytes, kind: str = "application/json") -> Iterator[str]:
    """A web server that gives one answer at every path; yields an API's address there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def speaking(greeting: bytes) -> Iterator[str]:
    """A server of another protocol, which sends a greeting and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1024)
                    connection.sendall(greeting)

        threading.Thread(target=greet, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        listener.shutdown(socket.SHUT_RDWR)


def refusal(url: str) -> UnderstudyError:
    """The error that checking this server's address raises within seconds."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    started = time.monotonic()
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(UnderstudyError) as caught:
        environment.check_prefect()
    assert time.monotonic() - started < WITHIN_S
    message = str(caught.value)
    assert url in message
    assert "prefect server start" in message
    assert "unset PREFECT_API_URL" in message
    return caught.value


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://no-such-host.invalid/api"])
def test_a_missing_server_is_a_passing_error(url: str) -> None:
    assert isinstance(refusal(url), PassingError)


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"-ERR unknown command\r\n", b""])
def test_a_server_of_another_protocol_is_an_error(greeting: bytes) -> None:
    with speaking(greeting) as url:
        assert isinstance(refusal(url), PassingError)


def test_tls_to_a_server_without_tls_is_an_error() -> None:
    with answering(200, b"true") as url:
        assert isinstance(refusal(url.replace("http://", "https://")), PassingError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, UserError), (405, UserError), (301, UserError), (500, PassingError), (502, PassingError)],
)
def test_the_status_decides_whether_an_error_is_passing(status: int, kind: type[UnderstudyError]) -> None:
    with answering(status, b'{"detail": "no"}') as url:
        assert isinstance(refusal(url), kind)


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"", b"[1]", b'{"a": 1}'])
def test_another_web_server_is_an_error(body: bytes) -> None:
    with answering(200, body, "text/html") as url:
        assert isinstance(refusal(url), UserError)


@pytest.mark.parametrize("status", [401, 403])
def test_missing_credentials_are_an_error(status: int) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    sentence = "does not let us in; set PREFECT_API_AUTH_STRING"
    with (
        answering(status, b"{}") as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(UserError, match=f"{url} {sentence}"),
    ):
        environment.check_prefect()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:4200/api",
        "127.0.0.1:4200",
        "http:/127.0.0.1/api",
        "http://[::1/api",
        "http://h:port/api",
        "ftp://h/api",
        "http://",
        " http://127.0.0.1:9/api",
        "4200",
    ],
)
def test_a_malformed_address_is_an_error_before_prefect_is_imported(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(UserError, match=r"^PREFECT_API_URL is ") as caught:
        environment.check_prefect_settings()
    assert url in str(caught.value)
    assert "unset it" in str(caught.value)


@pytest.mark.parametrize("command", ["run", "baseline", "sweep"])
def test_every_command_that_needs_the_server_ends_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()  # nothing is read of it before the server is looked for
    config = write_project(tmp_path, "./model")
    Path("sweep.yaml").write_text(f"base: {config}\narms: {{a: [], b: [student.steps=3]}}\n")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert understudy(command, "sweep.yaml" if command == "sweep" else config) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no Prefect server answers at http://127.0.0.1:9/api")
    assert "this is a bug" not in error
