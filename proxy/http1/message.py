"""Heads of HTTP/1.1 messages: read strictly, or not at all.

llhttp reads the field lines; around it stands what it lets through and a proxy must not: RFC 9112 §11.2, request
smuggling, lives off two readers of one message. Each head gets a parser of its own, which never sees a body: a parser
that is fed on has state, and cannot be stopped between two pipelined requests.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

import httptools

from proxy.http1.fields import Watched, trimmed, valid, values


class Fault(Enum):
    """Why a request cannot be served as it is."""

    BAD_REQUEST = auto()
    METHOD = auto()  # not a method of HTTP, or one that a gateway does not serve
    VERSION = auto()
    CODING = auto()  # a transfer coding other than chunked
    EXPECTATION = auto()
    URI_TOO_LONG = auto()
    FIELDS_TOO_LARGE = auto()
    TIMEOUT = auto()  # the head or the body came too slowly
    OVERLOADED = auto()  # more connections than are allowed


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may ask of us. Sizes in bytes, times in seconds."""

    request_line: int = 8 * 1024
    head: int = 32 * 1024
    fields: int = 100
    response_head: int = 64 * 1024
    trailers: int = 8 * 1024
    chunk_extensions: int = 1024
    head_timeout: float = 10.0
    body_idle_timeout: float = 30.0
    write_timeout: float = 60.0
    keepalive_timeout: float = 75.0
    connections: int = 10_000


@dataclass(slots=True)
class RequestHead:
    """A request line and its fields, all as they came, and what they say about the message."""

    method: bytes
    target: bytes
    """Origin-form (or `*`): what the upstream is sent. An absolute-form target has lost its scheme and authority, which
    stand in *host* (RFC 9112 §3.2.2)."""
    path: bytes
    """*target* without its query."""
    host: bytes
    """Empty only in HTTP/1.0."""
    minor: int
    block: bytes
    """The field lines: see `http1.fields`."""
    found: dict[bytes, bytes]
    """Of the fields that are watched: lower-case name → value, of a repeated one the last."""
    repeated: bool
    """Some watched field is."""
    watched: Watched
    connection: frozenset[bytes]
    """The options of all Connection fields, lower case."""
    length: int
    """Bytes of the body; 0: none; -1: chunked."""
    expects_continue: bool
    keep_alive: bool
    """Whether the client means to send another request on the connection (RFC 9112 §9.3)."""

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields *name* (lower case). Quick where *name* is watched."""
        if self.repeated or name not in self.watched.names:
            return values(self.block, name)
        value = self.found.get(name)
        return [] if value is None else [value]


@dataclass(slots=True)
class ResponseHead:
    """A status line and its fields, all as they came, and what they say about the message."""

    status: int
    reason: bytes
    minor: int
    block: bytes
    """The field lines: see `http1.fields`."""
    found: dict[bytes, bytes]
    """Of the fields in RESPONSE_FIELDS: lower-case name → lower-case value, of a repeated one the last."""
    connection: frozenset[bytes]
    length: int
    """Bytes of the body; CHUNKED; UNTIL_CLOSE."""
    keep_alive: bool


CHUNKED = -1
UNTIL_CLOSE = -2

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!$-;=?-\[\]_`a-z~]+) HTTP/1\.([01])").fullmatch
_OTHER_VERSION = re.compile(rb"[!-~]+ [!-~]+ HTTP/(?!1\.[01]$)[0-9]+(\.[0-9]+)?").fullmatch
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?").fullmatch
_ABSOLUTE = re.compile(rb"(https?)://([^/?@]+)(/[^?]*)?(\?.*)?", re.IGNORECASE).fullmatch
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~!$&'()*+;=%-]{1,255})(?::[0-9]{0,5})?").fullmatch
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch
_CODINGS = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*)", re.IGNORECASE).findall

METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE "
    b"PROPFIND PROPPATCH QUERY REBIND REPORT SEARCH UNBIND UNLINK UNLOCK".split()
)
"""The methods of HTTP that llhttp reads. CONNECT would be a tunnel around the guard; TRACE would show a client the
credentials that others added (RFC 9110 §9.3.8)."""

CONNECTION_MOST = 512
"""Bytes of the Connection fields of one head."""
NO_OPTIONS: frozenset[bytes] = frozenset()
_FRAMING = (b"content-length", b"transfer-encoding")
_SINGLE = (b"host", b"expect", *_FRAMING)
"""What may stand in a head once: of two, one reader would believe the first, another the last."""


REQUEST_FIELDS = frozenset(
    b"host content-length transfer-encoding connection expect x-request-id x-forwarded-for x-forwarded-proto "
    b"x-forwarded-host prefer upgrade".split()
)
"""What the wire itself looks at in a request; an application has more."""
RESPONSE_FIELDS = frozenset(b"content-length transfer-encoding connection date upgrade".split())
_REQUEST = Watched(REQUEST_FIELDS)
_RESPONSE = Watched(RESPONSE_FIELDS)


def read_request(data: bytes, limits: Limits, watched: Watched = _REQUEST) -> RequestHead | Fault:
    """*data*: a head from its first byte to the end of its empty line. *watched*: REQUEST_FIELDS, and whatever else
    somebody will ask for."""
    end = data.index(b"\r\n")
    if end > limits.request_line:
        return Fault.URI_TOO_LONG
    line = data[:end]
    matched = _REQUEST_LINE(line)
    if matched is None:
        return Fault.VERSION if _OTHER_VERSION(line) else Fault.BAD_REQUEST
    method, target, version = matched.groups()
    if method not in METHODS:
        return Fault.METHOD
    if not valid(httptools.HttpRequestParser, data):
        return _why_refused(data)
    block = trimmed(data[end:-4])
    if block.count(b"\r") > limits.fields:
        return Fault.FIELDS_TOO_LARGE
    found, repeated = watched.find(block)
    minor = 1 if version == b"1" else 0
    framing = _request_framing(found, repeated, block, minor)
    if isinstance(framing, Fault):
        return framing
    host, connection, length, expects_continue = framing
    located = _locate(method, target, host)
    if located is None:
        return Fault.BAD_REQUEST
    target, path, host = located
    keep_alive = _persists(minor, connection)
    return RequestHead(
        method,
        target,
        path,
        host,
        minor,
        block,
        found,
        repeated,
        watched,
        connection,
        length,
        expects_continue,
        keep_alive,
    )


def _why_refused(data: bytes) -> Fault:
    """llhttp's errors are texts; one deserves a status of its own: a coding that is not understood."""
    codings = _CODINGS(data)
    return _coding_fault(codings[0]) if len(codings) == 1 else Fault.BAD_REQUEST


def _coding_fault(value: bytes) -> Fault:
    """Of a Transfer-Encoding that is not just chunked: not understood (501), or, where chunked is not the last of its
    codings, without an end that anybody could know (400; RFC 9112 §6.1, §6.3)."""
    *others, last = value.lower().split(b",")
    return Fault.CODING if others and last.strip(b" \t") == b"chunked" else Fault.BAD_REQUEST


_RequestFraming = tuple[bytes, frozenset[bytes], int, bool]
"""Host, options of Connection, length, whether the client waits for 100."""


def _request_framing(found: dict[bytes, bytes], repeated: bool, block: bytes, minor: int) -> _RequestFraming | Fault:
    """What the fields say about the message itself (RFC 9112 §3.2, §6.1 to §6.3; RFC 9110 §10.1.1)."""
    if repeated and any(len(values(block, name)) > 1 for name in _SINGLE):
        return Fault.BAD_REQUEST
    host = found.get(b"host", b"")
    if (minor or host) and not valid_host(host):
        return Fault.BAD_REQUEST
    length = 0
    if b"content-length" in found:
        if _LENGTH(found[b"content-length"]) is None or b"transfer-encoding" in found:
            return Fault.BAD_REQUEST
        length = int(found[b"content-length"])
    elif b"transfer-encoding" in found:
        if minor == 0:
            return Fault.BAD_REQUEST
        if found[b"transfer-encoding"].lower() != b"chunked":
            return _coding_fault(found[b"transfer-encoding"])
        length = CHUNKED
    connection = _connection(found, repeated, block)
    if connection is None:
        return Fault.FIELDS_TOO_LARGE
    if b"expect" not in found:
        return host, connection, length, False
    if found[b"expect"].lower() != b"100-continue":
        return Fault.EXPECTATION
    return host, connection, length, minor == 1 and length != 0  # RFC 9110 §10.1.1: in HTTP/1.0 it is ignored


def _connection(found: dict[bytes, bytes], repeated: bool, block: bytes) -> frozenset[bytes] | None:
    """The options of all Connection fields, lower case. None: more than anybody needs; they become part of patterns
    that are kept."""
    if b"connection" not in found:
        return NO_OPTIONS
    value = b",".join(values(block, b"connection")) if repeated else found[b"connection"]
    return _options(value) if len(value) <= CONNECTION_MOST else None


@lru_cache(maxsize=256)
def _options(value: bytes) -> frozenset[bytes]:
    return frozenset(option.strip() for option in value.lower().split(b","))


def _persists(minor: int, connection: frozenset[bytes]) -> bool:
    """RFC 9112 §9.3: close comes first."""
    return b"close" not in connection and (minor == 1 or b"keep-alive" in connection)


@lru_cache(maxsize=256)
def valid_host(value: bytes) -> bool:
    """Whether *value* can be a Host (RFC 9110 §7.2): a name or an address, and perhaps a port."""
    return _HOST(value) is not None


def _locate(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Target in origin-form, path and host; None where target and Host contradict (RFC 9112 §3.2.2, §3.2.4)."""
    if target[:1] == b"/":
        return target, target.partition(b"?")[0], host
    if target == b"*":
        return (target, target, host) if method == b"OPTIONS" else None
    absolute = _ABSOLUTE(target)
    if absolute is None:
        return None
    scheme, authority, path, query = absolute.groups()
    if _HOST(authority) is None or (host and _without_port(host, scheme) != _without_port(authority, scheme)):
        return None
    if path is None and query is None and method == b"OPTIONS":
        return b"*", b"*", authority
    path = path or b"/"
    return path + (query or b""), path, authority


def _without_port(authority: bytes, scheme: bytes) -> bytes:
    """Comparable: lower case, without the default port of *scheme*."""
    return authority.lower().removesuffix(b":443" if len(scheme) == len(b"https") else b":80").removesuffix(b":")


@lru_cache(maxsize=256)
def _read_status_line(line: bytes) -> tuple[int, int, bytes] | None:
    """Minor version, status, reason; None: not a status line of HTTP/1."""
    matched = _STATUS_LINE(line)
    if matched is None:
        return None
    version, status, reason = matched.groups()
    return int(version), int(status), reason or b""


def read_response(data: bytes, method: bytes) -> ResponseHead | None:
    """*data*: a head from its first byte to the end of its empty line, the answer to a *method*. None: unusable; the
    connection cannot be used any more (RFC 9112 §6.3: its end would be guessed)."""
    end = data.index(b"\r\n")
    line = _read_status_line(data[:end])
    if line is None or not valid(httptools.HttpResponseParser, data):
        return None
    minor, status, reason = line
    block = trimmed(data[end:-4])
    found, repeated = _RESPONSE.find_lower(block)
    if repeated and any(len(values(block, name)) > 1 for name in _FRAMING):
        return None
    connection = _connection(found, repeated, block)
    if connection is None:
        return None
    length: int = UNTIL_CLOSE
    if b"content-length" in found:
        if _LENGTH(found[b"content-length"]) is None or b"transfer-encoding" in found:
            return None
        length = int(found[b"content-length"])
    elif b"transfer-encoding" in found:
        if minor == 0 or found[b"transfer-encoding"].lower() != b"chunked":
            return None
        length = CHUNKED
    if status < 200 and length not in (0, UNTIL_CLOSE):
        return None  # RFC 9110 §15.2: a 1xx has no content
    if method == b"HEAD" or status < 200 or status in (204, 304):
        length = 0
    if status == 101:
        length = UNTIL_CLOSE  # what follows is another protocol's (RFC 9110 §15.2.2)
    keep_alive = length != UNTIL_CLOSE and _persists(minor, connection)
    return ResponseHead(status, reason, minor, block, found, connection, length, keep_alive)
