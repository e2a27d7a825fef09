"""A root on S3: mistakes are named before any work, and a lost reply does not lose a write."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import PassingError, StoreError
from core.store import Store, pointers
from tests.core.store.making import made, paths
from tests.servers import careless, flaky, s3

PATIENCE_S = 15.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a cache of copies for this test."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def proxy(s3_root: str, s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[flaky.Proxy]:
    """A proxy between the stores of this test and the server."""
    with flaky.serve(s3_server) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.server.endpoint)
        yield running


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a request only twice, so that the test does not wait longer."""
    monkeypatch.setattr("core.store.s3._TRIES", 2)


def refused(root: str, kind: type[StoreError] | type[PassingError] = StoreError) -> str:
    """The message of the error that opening a root raises."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        Store.open(root)
    assert time.monotonic() - started < PATIENCE_S
    assert caught.value.exit_code == 1
    sentence = str(caught.value)
    assert sentence.startswith(f"cannot write {root}")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret key is wrong; correct AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "nobody", "the access key is not known there; correct AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", None, "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, both"),
        ("AWS_SECRET_ACCESS_KEY", None, "half of the credentials is missing; set AWS_ACCESS_KEY_ID and"),
        ("AWS_PROFILE", "nobodys", "(nobodys) could not be found; correct AWS_PROFILE"),
        (
            "AWS_ENDPOINT_URL",
            "127.0.0.1:9",
            "127.0.0.1:9 is not the address of a service; correct AWS_ENDPOINT_URL",
        ),
        (
            "AWS_ENDPOINT_URL",
            "ftp://127.0.0.1",
            "ftp://127.0.0.1 is not the address of a service; correct AWS_END",
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, sentence: str
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    assert sentence in refused(s3_root)


@pytest.mark.parametrize(
    ("bucket", "sentence"),
    [
        ("no-such-bucket", "bucket no-such-bucket does not exist; create it, or correct run.root"),
        ("odd bucket!", "no bucket can be called odd bucket!; correct run.root"),
        ("ab", "no bucket can be called ab; correct run.root"),
    ],
)
def test_a_missing_or_invalid_bucket_is_named(s3_root: str, bucket: str, sentence: str) -> None:
    assert sentence in refused(f"s3://{bucket}/x")


@pytest.mark.parametrize("who", [s3.READER, s3.TENANT])
def test_missing_rights_are_named(s3_root: str, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", who)
    assert "may not do that there; give them the right to read, write, list and delete" in refused(s3_root)


def test_rights_below_the_root_are_enough(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.TENANT)
    store = Store.open(f"s3://{s3.BUCKET}/{s3.TENANTS_PREFIX}/{uuid.uuid4().hex}")
    first = made(store)
    assert store.sound("split", "k1") == first
    store.backend.remove(paths(store, ""))
    assert paths(store, "") == []


def test_a_reader_needs_no_right_to_write(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(Store.open(s3_root))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.READER)
    assert Store.at(s3_root).sound("split", "k1") == first


@pytest.mark.usefixtures("hasty")
def test_an_address_without_a_service_is_a_passing_error(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.LOOPBACK}:9")
    sentence = refused(s3_root, PassingError)
    assert f"http://{s3.LOOPBACK}:9 does not answer as expected" in sentence
    assert "check AWS_ENDPOINT_URL and the network, then run the same command again" in sentence


def test_a_service_that_fails_during_a_copy_is_a_passing_error(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = made(Store.open(s3_root))
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "another-cache"))
    store = Store.at(s3_root)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.LOOPBACK}:9")
    with pytest.raises(PassingError, match="does not answer as expected"):
        store.folder(first)


def test_https_to_a_service_without_it_names_the_endpoint(
    s3_root: str, s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint.replace("http:", "https:"))
    assert "write http:// in AWS_ENDPOINT_URL if it has none" in refused(s3_root)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_service_is_a_passing_error(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with careless.serve(failing=status) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        assert f"{server.endpoint} does not answer as expected" in refused(s3_root, PassingError)


def test_a_service_that_ignores_conditions_is_rejected_without_leftovers(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with careless.serve() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        with pytest.raises(StoreError, match=r"ignores conditional writes .*; use a service that supports"):
            Store.open(s3_root)
        assert paths(Store.at(s3_root), "") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_local_disk_is_not_reported_as_the_services_error(s3_root: str) -> None:
    store = Store.open(s3_root)
    store.backend.write("a.txt", b"text")
    with pytest.raises(StoreError, match=r"cannot write /dev/full: No space left on device; free disk space"):
        store.backend.download("a.txt", Path("/dev/full"))


def test_opening_leaves_no_files(s3_root: str) -> None:
    assert paths(Store.open(s3_root), "") == []


def test_a_creation_whose_reply_is_lost_succeeds_once(proxy: flaky.Proxy, s3_root: str) -> None:
    backend = Store.at(s3_root).backend
    proxy.drop_next_reply("PUT", "a.json")
    assert backend.create("a.json", b"mine")
    assert len(proxy.dropped) == 1
    assert not backend.create("a.json", b"another's")


def test_a_swap_whose_reply_is_lost_succeeds_once(proxy: flaky.Proxy, s3_root: str) -> None:
    backend = Store.at(s3_root).backend
    backend.create("a.json", b"1")
    found = backend.read("a.json")
    assert found is not None
    proxy.drop_next_reply("PUT", "a.json")
    assert backend.swap("a.json", b"mine", found.version)
    assert len(proxy.dropped) == 1
    assert not backend.swap("a.json", b"another's", found.version)


@pytest.mark.parametrize("before", [0, 1])
def test_a_publication_whose_reply_is_lost_is_in_the_history_once(
    proxy: flaky.Proxy, s3_root: str, before: int
) -> None:
    store = Store.open(s3_root)
    for i in range(before):
        pointers.publish(store, "r", {"run_name": f"before-{i}"}, [])
    for name in ("r", pointers.LATEST):
        proxy.drop_next_reply("PUT", f"model/{name}.json")
    pointers.publish(store, "r", {"run_name": "mine"}, [])
    assert len(proxy.dropped) == 2
    for name in ("r", pointers.LATEST):
        found = pointers.read(store, name)
        assert found is not None
        assert [e["run_name"] for e in found["history"]] == [*(f"before-{i}" for i in range(before)), "mine"]


def test_a_manifest_whose_reply_is_lost_is_kept_with_its_files(proxy: flaky.Proxy, s3_root: str) -> None:
    store = Store.open(s3_root)
    proxy.drop_next_reply("PUT", "objects/split/k1.json")
    proxy.drop_next_reply("PUT", "train.jsonl")
    first = made(store)
    assert len(proxy.dropped) == 2
    assert store.sound("split", "k1") == first
    assert len(paths(store)) == 3


def test_a_lease_whose_reply_is_lost_is_held_and_released(proxy: flaky.Proxy, s3_root: str) -> None:
    store = Store.open(s3_root)
    proxy.drop_next_reply("PUT", "leases/")
    with store.lease("split/k", "split"):
        assert len(proxy.dropped) == 1
    assert paths(store, "leases") == []


@pytest.mark.usefixtures("hasty")
def test_a_service_that_never_answers_times_out(proxy: flaky.Proxy, s3_root: str) -> None:
    for _ in range(100):
        proxy.drop_next_reply("PUT")
    assert "does not answer as expected" in refused(s3_root, PassingError)


def test_a_service_that_accepts_connections_and_sends_nothing_times_out(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.store.s3.ANSWER_S", 2.0)
    with socket.create_server((s3.LOOPBACK, 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.LOOPBACK}:{silent.getsockname()[1]}")
        assert "does not answer as expected (FSTimeoutError" in refused(s3_root, PassingError)


def test_one_of_two_concurrent_creations_succeeds(s3_root: str) -> None:
    backends = [Store.at(s3_root).backend for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for round_ in range(10):
            path = f"a-{round_}.json"
            writes = [pool.submit(b.create, path, b"%d" % i) for i, b in enumerate(backends)]
            wins = [write.result() for write in writes]
            assert sorted(wins) == [False, True]
            found = backends[0].read(path)
            assert found is not None
            assert found.data == b"%d" % wins.index(True)
