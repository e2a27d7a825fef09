"""An S3 server that ignores the conditions of a write, as several real ones do.

Objects live in memory, every client is let in and any bucket exists. Uploads in parts are refused.
Told to fail, it answers every request with that status.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from tests.servers.connections import http_server
from tests.servers.s3 import S3Server

FOLDER = "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>"
OBJECT = (
    "<Contents><Key>{}</Key><Size>{}</Size><ETag>{}</ETag>"
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
)


@contextmanager
def serve(failing: int | None = None) -> Iterator[S3Server]:
    """Serve an empty store; `failing` is the status of every reply."""
    with http_server(type("Handler", (Handler,), {"objects": {}, "failing": failing})) as endpoint:
        yield S3Server(endpoint, "anybody", "any-secret")


def etag(body: bytes) -> str:
    """What S3 gives for an object written in one piece."""
    return f'"{hashlib.md5(body).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    """One connection; `objects` maps "bucket/key" to its bytes."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    failing: int | None

    def parse_request(self) -> bool:
        """Split the address into bucket, key and query as well."""
        well_formed = super().parse_request()
        if well_formed:
            parts = urlsplit(self.path)
            self.name = unquote(parts.path).strip("/")
            self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if well_formed and self.failing is not None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.error(self.failing, "SlowDown" if self.failing == 503 else "InternalError")
            return False
        return well_formed

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for header in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, code: str) -> None:
        self.reply(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "uploadId" in self.query or "x-amz-copy-source" in self.headers:
            return self.error(501, "NotImplemented")
        if "/" in self.name:
            self.objects[self.name] = body
        return self.reply(200, headers={"ETag": etag(body)})

    def do_GET(self) -> None:
        if "/" not in self.name:
            return self.reply(200, self.listing(), {"Content-Type": "application/xml"})
        body = self.objects.get(self.name)
        if body is None:
            return self.error(404, "NoSuchKey")
        headers = {"ETag": etag(body), "Last-Modified": email.utils.formatdate(usegmt=True)}
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2] or len(body)), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            return self.reply(206, body[first : last + 1], headers)
        return self.reply(200, body, headers)

    def do_HEAD(self) -> None:
        return self.do_GET() if "/" in self.name else self.reply(200)

    def do_DELETE(self) -> None:
        self.objects.pop(self.name, None)
        self.reply(204)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "delete" not in self.query:
            return self.error(501, "NotImplemented")
        for key in re.findall(r"<Key>(.*?)</Key>", body.decode()):
            self.objects.pop(f"{self.name}/{unescape(key)}", None)
        return self.reply(200, b"<DeleteResult/>", {"Content-Type": "application/xml"})

    def listing(self) -> bytes:
        """ListObjectsV2 in one page."""
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        entries = {}
        for name, body in sorted(self.objects.items()):
            bucket, _, key = name.partition("/")
            if bucket != self.name or not key.startswith(prefix):
                continue
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            shown = escape(prefix + head + cut if cut else key)
            entries[shown] = FOLDER.format(shown) if cut else OBJECT.format(shown, len(body), etag(body))
        return f"<ListBucketResult>{''.join(entries.values())}</ListBucketResult>".encode()
