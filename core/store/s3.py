"""A root on S3 or any service that speaks it, through s3fs; credentials and endpoint from AWS_*.

Conditional writes are put_object with If-None-Match or If-Match. If a reply is lost, the client tries again
and meets its own write: a conflict is therefore settled by reading what is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.errors import PassingError, StoreError
from core.store.backend import Content, FoundFile, explained

_CONFLICT = (409, 412)
_BUSY_TRIES = 6
_BATCH = 1000
"""Keys in one delete request, the most that S3 takes."""
_AT_ONCE = 4
_ROUNDS, _TRIES = 2, 3
"""How often s3fs calls botocore, and botocore the service: a failed task is retried anyway."""
_CONNECT_S = 3
ANSWER_S = 30.0
"""Time limit of a small request, with its repetitions: a put waits without limit for `100 Continue`."""
_SLOWEST = 100_000
"""Bytes per second that an upload is expected to reach at least."""


class S3:
    """The store's root below s3://bucket/prefix; the version of a file is its ETag."""

    folder = None

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.bucket, _, self._prefix = self.url.removeprefix("s3://").partition("/")

    @property
    def _fs(self) -> Any:
        settings = sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_"))
        return _client(os.getpid(), tuple(settings))

    def check(self) -> None:
        """Write, list and remove, and test both conditions. Raises StoreError if they are ignored."""
        probe = f".probe-{uuid.uuid4().hex[:12]}"
        created = self.create(probe, b"first") and not self.create(probe, b"second")
        found = self.read(probe)
        honored = (
            created
            and found is not None
            and found.data == b"first"
            and not self.swap(probe, b"third", '"0123456789abcdef"')
            and self.swap(probe, b"fourth", found.version)
        )
        self.list(probe)  # for the permission
        self.remove([probe])
        if not honored:
            raise StoreError(
                f"{self.url}: the service at {self._endpoint} ignores conditional writes (If-None-Match, "
                "If-Match), so two runs could overwrite each other; use a service that supports them, or a "
                "folder as run.root"
            )

    def read(self, path: str) -> Content | None:
        from fsspec.asyn import sync

        with self._explained(path, "read"):
            try:
                reply = self._call("get_object", Key=self._key(path))
                return Content(sync(self._fs.loop, reply["Body"].read), reply["ETag"])
            except FileNotFoundError as e:
                if _code(e) == "NoSuchBucket":
                    raise
                return None

    def write(self, path: str, data: bytes) -> None:
        """Put an object, which is atomic on S3."""
        with self._explained(path, "write"):
            self._call("put_object", Key=self._key(path), Body=data)

    def create(self, path: str, data: bytes) -> bool:
        """Put if the object does not exist."""
        return self._conditional(path, data, IfNoneMatch="*")

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Put if the ETag is `version`."""
        return self._conditional(path, data, IfMatch=version)

    def discard(self, path: str, version: str) -> None:
        """Compare and remove, in two requests: not every service removes conditionally."""
        found = self.read(path)
        if found is not None and found.version == version:
            self.remove([path])

    def list(self, prefix: str) -> list[FoundFile]:
        top = f"{self.bucket}/{self._key(prefix)}".rstrip("/")
        with self._explained(prefix, "list"):
            try:
                found = self._fs.find(top, detail=True, refresh=True)
            except FileNotFoundError as e:
                if _code(e) == "NoSuchBucket":
                    raise
                return []
        start = len(f"{self.bucket}/{self._key('')}")
        return [
            FoundFile(name[start:], info["size"], info["LastModified"].timestamp(), info.get("ETag"))
            for name, info in sorted(found.items())
            if info["type"] == "file" and not name.endswith("/") and name != top
        ]

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects, a thousand per request, and several requests at once."""

        def remove_batch(keys: Sequence[dict[str, str]]) -> None:
            with self._explained("", "remove from"):
                reply = self._call("delete_objects", Delete={"Objects": keys, "Quiet": True})
            for error in reply.get("Errors", []):
                raise StoreError(
                    f"cannot remove {error.get('Key')} from {self.bucket}: {error.get('Code')}; give these "
                    "credentials the right to delete below run.root"
                )

        keys = [{"Key": self._key(path)} for path in paths]
        batches = [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)]
        _ = self._fs  # created here, not by several threads
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(remove_batch, batches))

    def upload(self, source: Path, path: str) -> None:
        """Put a file, in parts if it is large."""
        with self._explained(path, "write"):
            limit = ANSWER_S + source.stat().st_size / _SLOWEST
            self._fs.put_file(str(source), f"{self.bucket}/{self._key(path)}", timeout=limit)

    def download(self, path: str, target: Path) -> None:
        with self._explained(path, "read", missing_is_an_answer=True):
            try:
                self._fs.get_file(f"{self.bucket}/{self._key(path)}", str(target))
            except OSError as e:
                if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                with explained(target, "write"):  # the local disk is full: not an error of the service
                    raise

    def copy(self, source: str, target: str) -> None:
        with self._explained(target, "write"):
            self._fs.cp_file(f"{self.bucket}/{self._key(source)}", f"{self.bucket}/{self._key(target)}")

    def _call(self, method: str, **parameters: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self.bucket, timeout=ANSWER_S, **parameters)

    def _conditional(self, path: str, data: bytes, **condition: str) -> bool:
        for attempt in range(_BUSY_TRIES):
            with self._explained(path, "write"):
                try:
                    self._call("put_object", Key=self._key(path), Body=data, **condition)
                    return True
                except OSError as e:
                    status = _status(e)
                    if status == 404 and "IfMatch" in condition and _code(e) != "NoSuchBucket":
                        return False
                    if status not in _CONFLICT:
                        raise
            found = self.read(path)
            if found is not None and found.data == data:
                return True  # the own write, whose reply was lost
            if status == 412:
                return False
            time.sleep(0.05 * 2**attempt)  # 409: another write was in progress, this one was not judged
        return False

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    @property
    def _endpoint(self) -> str:
        return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"

    @contextlib.contextmanager
    def _explained(self, path: str, doing: str, *, missing_is_an_answer: bool = False) -> Iterator[None]:
        try:
            yield
        except (StoreError, PassingError):
            raise
        except Exception as e:  # botocore's errors share no base but Exception
            if missing_is_an_answer and isinstance(e, FileNotFoundError) and _code(e) != "NoSuchBucket":
                raise
            start, kind = f"cannot {doing} {self.url}/{path}".rstrip("/"), type(e).__name__
            message = " ".join(str(e).split())[:200]
            if isinstance(e, ValueError) and str(e).startswith("Invalid endpoint"):
                kind = "InvalidEndpoint"  # botocore has no class for an endpoint without scheme
            if found := _REMEDIES.get(_code(e)) or _REMEDIES.get(kind):
                names = {"bucket": self.bucket, "endpoint": self._endpoint, "message": message}
                what, remedy = (text.format(**names) for text in found)
                raise StoreError(f"{start}: {what}; {remedy}") from e
            status = _status(e)
            if status is None or status >= 500:
                raise PassingError(
                    f"{start}: {self._endpoint} does not answer as expected ({kind}: {message}); "
                    "check AWS_ENDPOINT_URL and the network, then run the same command again: what is "
                    "finished is kept"
                ) from e
            raise StoreError(f"{start}: {_code(e) or kind}: {message}; see the log of the service") from e


@lru_cache
def _client(process: int, settings: tuple[tuple[str, str], ...]) -> Any:
    """One client per process and settings: it has a thread of its own, which a fork does not copy."""
    import s3fs

    config = {"connect_timeout": _CONNECT_S, "retries": {"mode": "standard", "total_max_attempts": _TRIES}}
    fs = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True, config_kwargs=config)
    fs.retries = _ROUNDS
    return fs


_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, both"
_RIGHTS = (
    "these credentials may not do that there",
    "give them the right to read, write, list and delete below run.root, or choose another run.root",
)
_NO_NAME = ("no bucket can be called {bucket}", "correct run.root")
_NO_ADDRESS = (
    "{endpoint} is not the address of a service",
    "correct AWS_ENDPOINT_URL, such as https://host:port",
)
_REMEDIES = {
    "NoSuchBucket": ("bucket {bucket} does not exist", "create it, or correct run.root"),
    "InvalidBucketName": _NO_NAME,
    "ParamValidationError": _NO_NAME,
    "InvalidAccessKeyId": ("the access key is not known there", "correct AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": ("the secret key is wrong", "correct AWS_SECRET_ACCESS_KEY"),
    "ExpiredToken": ("the session token has expired", "renew AWS_SESSION_TOKEN"),
    "NoCredentialsError": ("no credentials", _CREDENTIALS),
    "PartialCredentialsError": ("half of the credentials is missing", _CREDENTIALS),
    "ProfileNotFound": ("{message}", "correct AWS_PROFILE"),
    "EndpointResolutionError": _NO_ADDRESS,
    "InvalidEndpoint": _NO_ADDRESS,
    "SSLError": (
        "{endpoint} has no TLS that is trusted here ({message})",
        "write http:// in AWS_ENDPOINT_URL if it has none, or name its authority in AWS_CA_BUNDLE",
    ),
    "AccessDenied": _RIGHTS,
    "Forbidden": _RIGHTS,
    "403": _RIGHTS,
}
"""What is wrong and how to fix it, by the service's code or the class of botocore's error."""


def _response(error: BaseException) -> Any:
    for e in (error, error.__cause__):
        response = getattr(e, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _status(error: BaseException) -> int | None:
    status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status is not None else None


def _code(error: BaseException) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))
