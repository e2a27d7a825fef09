"""Key, server and model are checked before any work, each with one sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from core.engines.tinker import Connection, TinkerEngine, connection
from core.errors import ConfigError, ModelError, PassingError
from tests.core.engines.tinker.conftest import MODEL
from tests.servers import tinker

KEY = {"TINKER_API_KEY": "tml-abc"}


def test_a_missing_key_is_said_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^student\.engine is tinker, but TINKER_API_KEY is not set"):
        connection(environment={})


@pytest.mark.parametrize("key", ["sk-abc", "abc", "TML-abc"])
def test_a_malformed_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match="keys begin with tml- or eyJ") as caught:
        connection(environment={"TINKER_API_KEY": key})
    assert key not in str(caught.value)


@pytest.mark.parametrize("key", ["tml-abc", "eyJabc", " tml-abc\n"])
def test_both_kinds_of_key_are_taken(key: str) -> None:
    assert connection(environment={"TINKER_API_KEY": key}).key == key.strip()


def test_the_key_is_in_no_representation() -> None:
    assert "abc" not in repr(connection(environment=KEY))


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("https://Tinker.Example/", "https://tinker.example"),
        ("https://tinker.example:443/services/x/", "https://tinker.example/services/x"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_one_server_has_one_address(given: str, normalised: str) -> None:
    assert connection(given, KEY).server == normalised
    assert connection(None, {**KEY, "TINKER_BASE_URL": given}).server == normalised


def test_the_config_goes_before_the_environment_and_that_before_the_hosted_service() -> None:
    environment = {**KEY, "TINKER_BASE_URL": "http://there:1"}
    assert connection("http://here:1", environment).server == "http://here:1"
    assert connection(None, environment).server == "http://there:1"
    assert connection(None, KEY).server.startswith("https://tinker.thinkingmachines.dev/")


@pytest.mark.parametrize("address", ["tinker.example", "ftp://x", "http://", "http://a:b", "https://a?b=c"])
def test_what_is_no_address_is_refused_with_its_source(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^student\.engine\.base_url is .* not a server's address"):
        connection(address, KEY)
    with pytest.raises(ConfigError, match=r"^TINKER_BASE_URL is .* not a server's address"):
        connection(None, {**KEY, "TINKER_BASE_URL": address})


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(PassingError, match=f"the Tinker server {address} cannot be reached .*check"):
            TinkerEngine(MODEL, connection(address, KEY)).check()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden"])
def test_a_key_that_the_server_refuses_is_the_user_s_business(server: tinker.TinkerServer, kind: str) -> None:
    server.fail(kind)  # type: ignore[arg-type]
    # The SDK keeps one client for each key: another one, so that this is a new client.
    engine = TinkerEngine(MODEL, Connection(server.base_url, f"tml-{kind}"))
    with pytest.raises(ConfigError, match=r"does not take the key in TINKER_API_KEY .* check the key"):
        engine.check()


def test_a_served_model_passes(engine: TinkerEngine) -> None:
    engine.check()


@pytest.mark.parametrize("wrong", ["tiny/bose", "Tiny-Base", "completely different"])
def test_a_wrong_model_is_answered_with_the_nearest(connected: Connection, wrong: str) -> None:
    with pytest.raises(ModelError, match=f"does not serve '{wrong}'; nearest: .*tiny/base"):
        TinkerEngine(wrong, connected).check()


def test_nothing_is_sent_but_what_was_asked(server: tinker.TinkerServer) -> None:
    """The SDK's telemetry is off, in a process of its own since it reads the setting once."""
    script = (
        "import sys; from core.engines.tinker import TinkerEngine, connection\n"
        "from core.engines.base import LoraSpec\n"
        "engine = TinkerEngine('tiny/base', connection())\n"
        "engine.check(); engine.open(LoraSpec(4, 32.0, 0.0, 1), None).close(); engine.close()\n"
    )
    before = server.counts().calls.get("telemetry", 0)
    unset = {name: value for name, value in os.environ.items() if name != "TINKER_TELEMETRY"}
    environment = {**unset, "TINKER_API_KEY": tinker.KEY, "TINKER_BASE_URL": server.base_url}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=tinker.REPO, timeout=60)
    assert server.counts().calls.get("telemetry", 0) == before


def test_the_identity_is_server_and_model(connected: Connection, engine: TinkerEngine) -> None:
    identity = engine.identity
    assert (identity.kind, identity.server) == ("tinker", connected.server)
    assert identity != TinkerEngine("tiny/other", connected).identity
    assert identity == TinkerEngine(MODEL, connected).identity


def test_the_fingerprint_names_sdk_server_and_model(engine: TinkerEngine) -> None:
    found = engine.fingerprint
    assert (found["server"], found["model"]) == (engine.server, MODEL)
    assert found["tinker"][0].isdigit()
