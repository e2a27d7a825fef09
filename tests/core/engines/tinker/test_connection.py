"""Key, server and model are checked before any work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from core.engines.tinker import Connection, TinkerEngine, server_address
from core.errors import ConfigError, ModelError, PassingError
from tests.core.engines.tinker.conftest import MODEL
from tests.servers import tinker


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TINKER_API_KEY", "TINKER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def environment_key(monkeypatch: pytest.MonkeyPatch, key: str) -> str:
    monkeypatch.setenv("TINKER_API_KEY", key)
    return Connection(server_address()).require_key()


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^student\.engine is tinker, but TINKER_API_KEY is not set"):
        Connection(server_address()).require_key()


@pytest.mark.parametrize("key", ["sk-abc", "abc", "TML-abc"])
def test_a_malformed_key_is_rejected_and_not_printed(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with pytest.raises(ConfigError, match="keys begin with tml- or eyJ") as caught:
        environment_key(monkeypatch, key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("key", ["tml-abc", "eyJabc", " tml-abc\n"])
def test_both_kinds_of_key_are_accepted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    assert environment_key(monkeypatch, key) == key.strip()


def test_the_key_is_in_no_representation() -> None:
    assert "abc" not in repr(Connection("http://x", "tml-abc"))


@pytest.mark.parametrize(
    ("given", "normalized"),
    [
        ("https://Tinker.Example/", "https://tinker.example"),
        ("https://tinker.example:443/services/x/", "https://tinker.example/services/x"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses_of_a_server_are_normalized(
    monkeypatch: pytest.MonkeyPatch, given: str, normalized: str
) -> None:
    assert server_address(given) == normalized
    monkeypatch.setenv("TINKER_BASE_URL", given)
    assert server_address() == normalized


def test_the_config_overrides_the_environment_and_that_the_hosted_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert server_address().startswith("https://tinker.thinkingmachines.dev/")
    monkeypatch.setenv("TINKER_BASE_URL", "http://there:1")
    assert server_address() == "http://there:1"
    assert server_address("http://here:1") == "http://here:1"


@pytest.mark.parametrize("address", ["tinker.example", "ftp://x", "http://", "http://a:b", "https://a?b=c"])
def test_a_malformed_address_is_rejected_with_its_source(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with pytest.raises(ConfigError, match=r"^student\.engine\.base_url is .* not a server's address"):
        server_address(address)
    monkeypatch.setenv("TINKER_BASE_URL", address)
    with pytest.raises(ConfigError, match=r"^TINKER_BASE_URL is .* not a server's address"):
        server_address()


def test_an_unreachable_server_is_an_error_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(PassingError, match=f"the Tinker server {address} cannot be reached .*check"):
            TinkerEngine(MODEL, Connection(server_address(address), "tml-abc")).check()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden"])
def test_a_key_that_the_server_rejects_is_a_config_error(server: tinker.TinkerServer, kind: str) -> None:
    server.fail(kind)  # type: ignore[arg-type]
    # The SDK keeps one client for each key: another one, so that this is a new client.
    engine = TinkerEngine(MODEL, Connection(server.base_url, f"tml-{kind}"))
    with pytest.raises(ConfigError, match=r"does not accept the key in TINKER_API_KEY .* check the key"):
        engine.check()


def test_a_model_that_the_server_has_passes_the_check(engine: TinkerEngine) -> None:
    engine.check()


@pytest.mark.parametrize("wrong", ["tiny/bose", "Tiny-Base", "completely different"])
def test_a_wrong_model_is_an_error_with_the_nearest_names(connected: Connection, wrong: str) -> None:
    with pytest.raises(ModelError, match=f"does not serve '{wrong}'; nearest: .*tiny/base"):
        TinkerEngine(wrong, connected).check()


def test_the_sdk_sends_no_telemetry(server: tinker.TinkerServer) -> None:
    """Runs in another process, since the SDK reads the setting once."""
    script = (
        "import sys; from core.engines.tinker import Connection, TinkerEngine, server_address\n"
        "from core.engines import LoraSpec\n"
        "engine = TinkerEngine('tiny/base', Connection(server_address()))\n"
        "engine.check(); engine.open(LoraSpec(4, 32.0, 0.0, 1), None).close(); engine.close()\n"
    )
    before = server.counts().calls.get("telemetry", 0)
    unset = {name: value for name, value in os.environ.items() if name != "TINKER_TELEMETRY"}
    environment = {**unset, "TINKER_API_KEY": tinker.KEY, "TINKER_BASE_URL": server.base_url}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=tinker.REPO, timeout=60)
    assert server.counts().calls.get("telemetry", 0) == before


def test_the_identity_consists_of_server_and_model(connected: Connection, engine: TinkerEngine) -> None:
    identity = engine.identity
    assert (identity.kind, identity.server) == ("tinker", connected.server)
    assert identity != TinkerEngine("tiny/other", connected).identity
    assert identity == TinkerEngine(MODEL, connected).identity


def test_the_fingerprint_names_sdk_server_and_model(engine: TinkerEngine) -> None:
    found = engine.fingerprint
    assert (found["server"], found["model"]) == (engine.server, MODEL)
    assert found["tinker"][0].isdigit()
