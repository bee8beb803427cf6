"""A row of the table of requests: some bytes, and what becomes of them."""

from collections.abc import Sequence
from typing import NamedTuple

KEY = b"wire-key-0000000000"
"""Stands in rows for a key that nobody has used: each run has its own, just as long."""
HOST = b"Host: api.example.com"
KEYED = b"Idempotency-Key: " + KEY
CHUNKED = b"Transfer-Encoding: chunked"
GET = b"GET /pay HTTP/1.1"
POST = b"POST /pay HTTP/1.1"

Expected = tuple[tuple[bytes, tuple[bytes, ...]], ...]


class Forwarded(NamedTuple):
    """Reaches the upstream, as one request. *fields*: names and all their values there; () where it must not be."""

    method: bytes
    target: bytes = b"/pay"
    body: bytes = b""
    fields: Expected = ()


class Refused(NamedTuple):
    """Is answered by the proxy. Nothing reaches the upstream; where it was *streamed*, its beginning may, but never its
    end."""

    status: int
    kind: str = "bad_request"
    streamed: bool = False
    bodiless: bool = False
    """The answer to a HEAD."""


class Unanswered(NamedTuple):
    """Is not whole: nothing is said as long as the client may go on. See `Refused` for *streamed*."""

    streamed: bool = False


Fate = Forwarded | Refused | Unanswered


class Row(NamedTuple):
    """*rule*: where it is written. *stays*: whether another request may follow on the connection."""

    name: str
    data: bytes
    fates: tuple[Fate, ...]
    stays: bool
    rule: str


class Group(NamedTuple):
    """Rows about one thing."""

    title: str
    rows: Sequence[Row]


def lines(*head: bytes, body: bytes = b"") -> bytes:
    """A head of these lines, its empty line, and whatever follows."""
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def row(name: str, data: bytes, rule: str, *fates: Fate, stays: bool | None = None) -> Row:
    """A row. The connection stays open behind a request that was forwarded, unless it is said."""
    return Row(name, data, fates, isinstance(fates[-1], Forwarded) if stays is None else stays, rule)


def refused(name: str, data: bytes, status: int, rule: str, *, streamed: bool = False) -> Row:
    """One request that is refused as no HTTP that is served here; the connection ends with that."""
    kind = {414: "uri_too_long", 431: "header_fields_too_large", 413: "request_too_large"}.get(status, "bad_request")
    return row(name, data, rule, Refused(status, kind, streamed))
