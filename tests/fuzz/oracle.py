"""h11 as the judge of one message: another reader of the same bytes, which shares no code with llhttp or with us."""

import re
from typing import NamedTuple

import h11

from proxy.http1 import message
from proxy.http1.fields import pairs
from proxy.http1.forward import HOP_BY_HOP, Forwarding, Peer, end_to_end, framed
from proxy.http1.message import CHUNKED, Limits, RequestHead, ResponseHead
from proxy.tokens import Tokens

_MOST = 1 << 20
_WIDE = Limits(request_line=_MOST, head=_MOST, fields=1000, response_head=_MOST)
"""What we send has a few fields more than what came."""
_EXPLAINED = {
    "blanks before a chunk's extension: RFC 9112 §7.1.1 asks a recipient to read them": rb"[0-9A-F][ \t]+;",
    "framing fields in the trailers, which h11 checks as if they meant something; we drop all (RFC 9110 §6.5.1)": (
        rb"\n0+[^\r\n]*\r\n(?:[^\r\n]+\r\n)*(?:content-length|transfer-encoding):"
    ),
}
"""Where h11 refuses a body that we read: why we do, and how one knows it."""
FORWARDING = Forwarding(Tokens(), b"api.example.com", "proxy", [], [b"idempotency-key"])
PEERS = (Peer("192.0.2.1", trusted=False), Peer("192.0.2.1", trusted=True))


class Reading(NamedTuple):
    """What h11 makes of the bytes of one message. *head*: None, where it has none. *refused*: it is an error, in the
    head or behind it. *rest*: what is behind a message that is *whole*."""

    head: h11.Request | h11.Response | None
    body: bytes
    whole: bool
    refused: bool
    rest: bytes

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Names in their own case."""
        return [] if self.head is None else self.head.headers.raw_items()


def explained(reading: Reading, data: bytes) -> str | None:
    """Why h11 refuses *data* behind its head, where we need not."""
    if reading.head is None or not reading.refused:
        return None
    return next((why for why, mark in _EXPLAINED.items() if re.search(mark, b"\n" + data, re.IGNORECASE)), None)


def read_request(data: bytes) -> Reading:
    """The first request in *data*."""
    return _read(h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST), data, ended=False)


def read_response(data: bytes, method: bytes, *, ended: bool) -> Reading:
    """The first final response in *data*, to a request with *method*. *ended*: the connection is."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
    connection.send(h11.EndOfMessage())
    return _read(connection, data, ended=ended)


def _read(connection: h11.Connection, data: bytes, *, ended: bool) -> Reading:
    head: h11.Request | h11.Response | None = None
    body, whole, refused = b"", False, False
    try:
        if data:
            connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while not whole:
            match connection.next_event():
                case h11.Request() | h11.Response() as event:
                    head = event
                case h11.Data(data=piece):
                    body += piece
                case h11.EndOfMessage():
                    whole = True
                case h11.InformationalResponse():
                    pass
                case _:  # more is needed, or there will be no more
                    break
    except h11.RemoteProtocolError:
        refused = True
    return Reading(head, body, whole, refused, connection.trailing_data[0])


def same_target(head: RequestHead, target: bytes) -> bool:
    """Whether *target* is what came where we read *head*'s: an absolute form has lost its authority (RFC 9112 §3.2.2),
    and has a path."""
    absolute = re.fullmatch(rb"https?://[^/?]+(/[^?]*)?(\?.*)?", target, re.IGNORECASE)
    if absolute is None:
        return head.target == target
    path, query = absolute[1], absolute[2]
    if path is None and query is None and head.method == b"OPTIONS":
        return head.target == b"*"
    return head.target == (path or b"/") + (query or b"")


def judge_request_head(head: RequestHead, reading: Reading) -> None:
    """h11 reads the same head; raise AssertionError."""
    theirs = reading.head
    assert isinstance(theirs, h11.Request), (head, reading)
    assert theirs.method == head.method, (theirs, head)
    assert same_target(head, theirs.target), (theirs.target, head.target)
    assert theirs.http_version == b"1.%d" % head.minor, (theirs.http_version, head.minor)
    assert reading.fields == _as_h11(head.block), (reading.fields, head.block)
    assert head.length == _framing(pairs(head.block)), (head.length, head.block)


def _as_h11(block: bytes) -> list[tuple[bytes, bytes]]:
    """h11 writes codings in lower case."""
    return [(name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in pairs(block)]


def _framing(fields: list[tuple[bytes, bytes]]) -> int:
    lengths = [int(value) for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    assert len(lengths) + len(codings) <= 1, fields
    return CHUNKED if codings else sum(lengths)


def judge_forwarded(head: RequestHead) -> None:
    """What goes to the upstream for *head* is read by h11 and by ourselves as the same request, and has nothing in it
    that ends at a gateway (RFC 9110 §7.6.1); raise AssertionError."""
    lengths = (CHUNKED, 7) if head.length == CHUNKED else (head.length,)  # streamed; or collected first
    for length in lengths:
        for peer in PEERS:
            sent = FORWARDING.request(head, peer, length)
            again = message.read_request(sent, _WIDE)
            assert isinstance(again, RequestHead), (again, sent)
            assert (again.method, again.target, again.length, again.minor) == (head.method, head.target, length, 1), (
                sent
            )
            judge_request_head(again, read_request(sent))
            names = [name.lower() for name, _ in pairs(again.block)]
            assert names.count(b"host") == 1, sent
            assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, sent
            assert not (HOP_BY_HOP - {b"transfer-encoding"}).intersection(names), sent
            assert not head.connection.intersection(names) - _KEPT, sent
            assert re.search(rb"\0|\r(?!\n)|(?<!\r)\n", sent) is None, sent


_KEPT = frozenset(
    b"host content-length transfer-encoding idempotency-key via x-request-id x-forwarded-for x-forwarded-proto "
    b"x-forwarded-host".split()
)
"""What Connection cannot take away, or the proxy says itself."""


def judge_response_head(head: ResponseHead, reading: Reading) -> None:
    """h11 reads the same head; raise AssertionError."""
    theirs = reading.head
    assert isinstance(theirs, h11.Response), (head, reading)
    assert (theirs.status_code, theirs.reason) == (head.status, head.reason), (theirs, head)
    assert theirs.http_version == b"1.%d" % head.minor, (theirs.http_version, head.minor)
    assert reading.fields == _as_h11(head.block), (reading.fields, head.block)


def judge_given(head: ResponseHead, method: bytes, body: bytes) -> None:
    """What a client is given of a whole response is read by h11 as that response; raise AssertionError."""
    start = b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
    complete = start + framed(head, method, len(body)) + b"\r\n" + body
    _given(complete, head, method, body)
    lines = end_to_end(head)
    if head.length >= 0:
        _given(start + lines + b"\r\n" + body, head, method, body)
    else:
        chunks = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        _given(start + lines + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", head, method, body)


def _given(data: bytes, head: ResponseHead, method: bytes, body: bytes) -> None:
    reading = read_response(data, method, ended=False)
    assert reading.whole, (data, reading)
    assert (reading.body, reading.rest) == (body, b""), (data, reading)
    names = [name.lower() for name, _ in reading.fields]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, data
    assert not (HOP_BY_HOP - {b"transfer-encoding"}).intersection(names), data
    assert not (head.connection - _KEPT).intersection(names) - {b"date"}, data
    assert b"date" in names, data
