"""The servers that other tests rely on do what those tests take for granted."""

from __future__ import annotations

import http.client
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pytest

from tests.servers import careless, flaky
from tests.servers.s3 import BUCKET, S3Server


def put(server: S3Server, key: str, body: bytes, **conditions: str) -> str:
    """Write an object and give its ETag."""
    written = server.filesystem().call_s3("put_object", Bucket=BUCKET, Key=key, Body=body, **conditions)
    return str(written["ETag"])


def get(client: http.client.HTTPConnection, key: str) -> int:
    """The status of an unsigned read over a connection that is kept."""
    client.request("GET", f"/{BUCKET}/{key}")
    with client.getresponse() as response:
        response.read()
        return response.status


def refusal(error: BaseException | None) -> tuple[int, str]:
    """The HTTP status behind an error of s3fs, and S3's own name for what went wrong."""
    assert error is not None
    response: dict[str, Any] = getattr(error.__cause__, "response", {})
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.fixture
def key() -> str:
    """A key that no other test writes."""
    return f"{uuid.uuid4().hex}/object"


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[flaky.Proxy]:
    """A proxy in front of the real server."""
    with flaky.serve(s3_server) as running:
        yield running


def test_an_object_is_created_once(s3_server: S3Server, key: str) -> None:
    put(s3_server, key, b"first", IfNoneMatch="*")
    with pytest.raises(OSError) as caught:
        put(s3_server, key, b"second", IfNoneMatch="*")
    assert refusal(caught.value) == (412, "PreconditionFailed")
    assert s3_server.filesystem().cat_file(f"{BUCKET}/{key}") == b"first"


def test_of_several_who_create_an_object_one_succeeds(s3_server: S3Server, key: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(put, s3_server, key, b"%d" % i, IfNoneMatch="*") for i in range(4)]
    errors = [write.exception() for write in writes]
    assert errors.count(None) == 1
    assert {refusal(e)[0] for e in errors if e} <= {409, 412}
    winner = errors.index(None)
    assert s3_server.filesystem().cat_file(f"{BUCKET}/{key}") == b"%d" % winner


def test_an_object_is_replaced_only_by_who_knows_its_etag(s3_server: S3Server, key: str) -> None:
    first = put(s3_server, key, b"first")
    put(s3_server, key, b"second", IfMatch=first)
    with pytest.raises(OSError) as caught:
        put(s3_server, key, b"third", IfMatch=first)
    assert refusal(caught.value) == (412, "PreconditionFailed")
    assert s3_server.filesystem().cat_file(f"{BUCKET}/{key}") == b"second"


@pytest.mark.parametrize(
    ("access_key", "expected"), [("writer", "SignatureDoesNotMatch"), ("nobody", "InvalidAccessKeyId")]
)
def test_wrong_credentials_are_refused(s3_server: S3Server, key: str, access_key: str, expected: str) -> None:
    with pytest.raises(PermissionError) as caught:
        put(S3Server(s3_server.endpoint, access_key, "wrong"), key, b"x")
    assert refusal(caught.value) == (403, expected)


def test_the_reader_reads_and_lists_and_changes_nothing(s3_server: S3Server, key: str) -> None:
    put(s3_server, key, b"x")
    reader = s3_server.reader.filesystem()
    assert reader.cat_file(f"{BUCKET}/{key}") == b"x"
    assert list(reader.find(f"{BUCKET}/{key.partition('/')[0]}")) == [f"{BUCKET}/{key}"]
    with pytest.raises(PermissionError) as caught:
        put(s3_server.reader, f"{key}-2", b"x")
    assert refusal(caught.value) == (403, "AccessDenied")
    with pytest.raises(PermissionError):
        reader.rm_file(f"{BUCKET}/{key}")


def test_a_missing_bucket_is_not_made_by_a_write(s3_server: S3Server) -> None:
    client = s3_server.filesystem()
    with pytest.raises(FileNotFoundError) as caught:
        client.pipe_file("no-such-bucket/object", b"x")
    assert refusal(caught.value) == (404, "NoSuchBucket")
    s3_server.make_bucket("made-when-asked")
    client.pipe_file("made-when-asked/object", b"x")


def test_a_client_with_nothing_but_the_environment_reaches_an_empty_prefix(s3_root: str) -> None:
    fs, path = fsspec.core.url_to_fs(s3_root)
    assert fs.find(path) == []
    fs.pipe_file(f"{path}/object", b"x")
    assert fs.find(path) == [f"{path}/object"]


def test_the_careless_server_takes_every_conditional_write() -> None:
    with careless.serve() as server:
        first = put(server, "a/object", b"first", IfNoneMatch="*")
        put(server, "a/object", b"second", IfNoneMatch="*")
        put(server, "a/object", b"third", IfMatch=first)
        assert server.filesystem().cat_file(f"{BUCKET}/a/object") == b"third"


def test_the_careless_server_lists_reads_and_deletes_like_others() -> None:
    with careless.serve() as server:
        fs = server.filesystem()
        names = [f"{BUCKET}/{name}" for name in ("a/one", "a/two & three", "b/c/d")]
        for name in names:
            fs.pipe_file(name, name.encode())
        assert fs.find(BUCKET) == names
        assert fs.ls(BUCKET) == [f"{BUCKET}/a", f"{BUCKET}/b"]
        assert fs.info(names[1])["size"] == len(names[1])
        assert fs.cat_file(names[0], start=1, end=4) == names[0].encode()[1:4]
        with fs.open(names[0]) as file:
            assert file.read() == names[0].encode()
        fs.rm(names[:2])
        fs.rm_file(names[2])
        fs.invalidate_cache()
        assert fs.find(BUCKET) == []
        assert not fs.exists(names[0])
        fs.call_s3("head_bucket", Bucket=BUCKET)


def test_a_server_of_our_own_that_ended_answers_nobody(s3_server: S3Server, key: str) -> None:
    for context in (careless.serve(), flaky.serve(s3_server)):
        with context as running:
            server = running.server if isinstance(running, flaky.Proxy) else running
            client = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=10)
            assert get(client, key) in (403, 404)
        with pytest.raises(OSError):
            get(client, key)


def test_signatures_hold_through_the_proxy(proxy: flaky.Proxy, key: str) -> None:
    put(proxy.server, key, b"x" * 1_000_000)
    assert proxy.server.filesystem().cat_file(f"{BUCKET}/{key}") == b"x" * 1_000_000
    assert proxy.dropped == []
    with pytest.raises(PermissionError):
        put(S3Server(proxy.server.endpoint, "writer", "wrong"), key, b"y")


def test_a_write_whose_reply_is_lost_is_stored_and_its_repetition_conflicts(
    proxy: flaky.Proxy, key: str
) -> None:
    proxy.drop_next_reply("PUT", key)
    with pytest.raises(OSError) as caught:
        put(proxy.server, key, b"first", IfNoneMatch="*")
    assert refusal(caught.value) == (412, "PreconditionFailed")
    assert proxy.server.filesystem().cat_file(f"{BUCKET}/{key}") == b"first"
    assert [line.split()[0] for line in proxy.dropped] == ["PUT"]
    assert sum(line.startswith("PUT") for line in proxy.requests) == 2


def test_only_the_reply_that_was_named_is_lost(proxy: flaky.Proxy, key: str) -> None:
    proxy.drop_next_reply("PUT", "another")
    put(proxy.server, key, b"x", IfNoneMatch="*")
    put(proxy.server, f"{key}-another", b"x")
    put(proxy.server, f"{key}-another", b"x")
    assert len(proxy.dropped) == 1
    assert "another" in proxy.dropped[0]
