"""h11 as the judge: another reader of the same bytes, that knows nothing of llhttp or of us.

h11 takes some things that a proxy must never send (folded lines, bare LF, control characters, a body with a length and
a coding): so what reaches the upstream has to keep to the letter of RFC 9112 besides.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import h11

from tests.support.raw import Field

_LARGEST_HEAD = 128 * 1024
_STRICT_HEAD = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\r\n)+\r\n"
)
"""RFC 9112 §3 and §5, without its leniences: no blank behind a value."""
_STRICT_BODY = re.compile(rb"(?:[1-9a-f][0-9a-f]*\r\n.*?\r\n)*0\r\n\r\n", re.DOTALL)
"""Chunks as we write them: no extensions, no trailers."""
_NEVER = frozenset(b"connection keep-alive proxy-connection te trailer upgrade expect".split())
"""What ends at a gateway (RFC 9110 §7.6.1)."""


class Heard(NamedTuple):
    """A request that was whole."""

    method: bytes
    target: bytes
    fields: list[Field]
    body: bytes

    def all(self, name: bytes) -> tuple[bytes, ...]:
        """The values of every field of that name, in order."""
        return tuple(value for own, value in self.fields if own.lower() == name.lower())


class Ending(Enum):
    """Where a reader stands behind the last whole request."""

    OPEN = "open"  # ready for the next one
    WAITING = "waiting"  # some of a request is there
    REFUSED = "refused"  # it is an error
    CLOSES = "closes"  # the last request was the last of its connection


class Oracle:
    """What the upstream is sent on one connection."""

    def __init__(self) -> None:
        self.doubts: list[str] = []
        """What h11 took, and a proxy may not send."""
        self._raw = b""
        """Of the request that is being read."""
        self._reader = _reader()
        self._request: h11.Request | None = None
        self._body: list[bytes] = []

    @property
    def unfinished(self) -> int:
        """Bytes of a request that is not whole."""
        return len(self._raw)

    def feed(self, data: bytes) -> list[Heard]:
        """The requests that *data* makes whole; raise h11.RemoteProtocolError where they are none."""
        heard = []
        while data:
            self._raw += data
            self._reader.receive_data(data)
            data = b""
            for event in _events(self._reader):
                match event:
                    case h11.Request():
                        self._request = event
                    case h11.Data():
                        self._body.append(bytes(event.data))
                    case h11.EndOfMessage():
                        if trailers := list(event.headers):
                            self.doubts.append(f"trailers {trailers}")
                        data = self._reader.trailing_data[0]
                        heard.append(self._whole(self._raw[: len(self._raw) - len(data)]))
        return heard

    def _whole(self, raw: bytes) -> Heard:
        request = self._request
        assert request is not None
        heard = Heard(request.method, request.target, list(request.headers.raw_items()), b"".join(self._body))
        self.doubts.extend(_doubts(heard, raw))
        self._raw, self._reader, self._request, self._body = b"", _reader(), None, []
        return heard


def _doubts(heard: Heard, raw: bytes) -> Iterator[str]:
    """*raw*: the bytes that were read as *heard*."""
    head, end, body = raw.partition(b"\r\n\r\n")
    if not _STRICT_HEAD.fullmatch(head + end):
        yield f"head {head!r}"
    names = [name.lower() for name, _ in heard.fields]
    if ended := sorted(_NEVER.intersection(names)):
        yield f"fields {ended}"
    framing = [name for name in names if name in (b"content-length", b"transfer-encoding")]
    if len(framing) > 1 or names.count(b"host") != 1:
        yield f"framing {names}"
    if b"transfer-encoding" in framing and not _STRICT_BODY.fullmatch(body):
        yield f"chunks {body!r}"


def client_said(data: bytes) -> tuple[list[Heard], Ending]:
    """What h11 makes of a client's bytes, were it in our place."""
    heard: list[Heard] = []
    while data:
        reader, body = _reader(), list[bytes]()
        request: h11.Request | None = None
        reader.receive_data(data)
        data = b""
        ending = Ending.WAITING
        try:
            for event in _events(reader):
                match event:
                    case h11.Request():
                        request = event
                    case h11.Data():
                        body.append(bytes(event.data))
                    case h11.EndOfMessage():
                        assert request is not None
                        fields = list(request.headers.raw_items())
                        heard.append(Heard(request.method, request.target, fields, b"".join(body)))
                        data = reader.trailing_data[0]
                        ending = Ending.CLOSES if reader.their_state is h11.MUST_CLOSE else Ending.OPEN
        except h11.RemoteProtocolError:
            return heard, Ending.REFUSED
        if ending is not Ending.OPEN:
            return heard, ending
    return heard, Ending.OPEN


class Given(NamedTuple):
    """A response as h11 reads it at the client's end."""

    interim: list[int]
    status: int | None
    """None: no head came."""
    fields: list[Field]
    body: bytes
    whole: bool

    def all(self, name: bytes) -> tuple[bytes, ...]:
        """The values of every field of that name, in order."""
        return tuple(value for own, value in self.fields if own.lower() == name.lower())


class ResponseReader:
    """Reads the response to a *method*; raise h11.RemoteProtocolError where it is none."""

    def __init__(self, method: bytes) -> None:
        self._reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)
        request = h11.Request(method=method, target=b"/", headers=[(b"Host", b"api.example.com")])
        self._reader.send(request)
        self._reader.send(h11.EndOfMessage())
        self.given = Given([], None, [], b"", whole=False)

    def feed(self, data: bytes) -> None:
        """*data*: what came. Behind a whole response nothing may come; empty: the connection has ended."""
        try:
            self._reader.receive_data(data)
            for event in _events(self._reader):
                self.given = self._after(event)
        except h11.RemoteProtocolError:
            if data:
                raise  # an end within a response is for the test to judge
        assert not (self.given.whole and self._reader.trailing_data[0]), self._reader.trailing_data

    def _after(self, event: h11.Event) -> Given:
        given = self.given
        match event:
            case h11.InformationalResponse():
                return given._replace(interim=[*given.interim, event.status_code])
            case h11.Response():
                return given._replace(status=event.status_code, fields=list(event.headers.raw_items()))
            case h11.Data():
                return given._replace(body=given.body + bytes(event.data))
            case h11.EndOfMessage():
                return given._replace(whole=True)
            case _:
                return given


def _reader() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_HEAD)


def _events(reader: h11.Connection) -> Iterator[h11.Event]:
    while True:
        event = reader.next_event()
        if not isinstance(event, h11.Event) or isinstance(event, h11.ConnectionClosed):
            return  # it needs more, or pauses
        yield event
