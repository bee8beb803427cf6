"""The wire as bytes: a raw client, a strict reader of responses, and waiting with a deadline instead of sleeping."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

Field = tuple[bytes, bytes]
_POLL = 0.01


class Incomplete(Exception):
    """The bytes end before the response does."""


class Malformed(Exception):
    """The bytes are no response that a careful client would accept."""


class Reply(NamedTuple):
    """One response; the body is without its transfer coding, the fields as they came."""

    status: int
    reason: bytes
    fields: list[Field]
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        """The values of every field of that name, in order; the case of the name does not matter."""
        return [value for own, value in self.fields if own.lower() == name.lower()]

    def field(self, name: bytes) -> bytes | None:
        """The value of the one field of that name; None where there is none; raise Malformed where it is repeated."""
        return only(self.fields, name)


def only(fields: list[Field], name: bytes) -> bytes | None:
    """The value of the one field of that name; None where there is none; raise Malformed where it is repeated."""
    values = [value for own, value in fields if own.lower() == name.lower()]
    if len(values) > 1:
        raise Malformed(f"{len(values)} fields {name!r}")
    return values[0] if values else None


def parse(data: bytes, *, head: bool = False) -> Reply:
    """The one response that *data* is, no byte more or less; raise Incomplete or Malformed. *head*: the answer to a
    HEAD request, which has no body. A body without length or coding is all that follows, up to EOF."""
    reply, rest = take(data, head=head, ended=True)
    if rest:
        raise Malformed(f"bytes after the response: {rest[:200]!r}")
    return reply


def parse_all(data: bytes, *, head: bool = False) -> list[Reply]:
    """All responses in *data*, in order, interim ones (1xx) too; raise Incomplete or Malformed."""
    replies = []
    while data:
        reply, data = take(data, head=head, ended=True)
        replies.append(reply)
    return replies


def take(data: bytes, *, head: bool, ended: bool) -> tuple[Reply, bytes]:
    """The first response in *data*, and what follows it; *ended*: no more bytes will come."""
    lines, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        raise Incomplete(data[:200])
    status_line, *field_lines = lines.split(b"\r\n")
    found = re.fullmatch(rb"HTTP/1\.[01] ([1-5]\d\d) ([\t\x20-\x7e\x80-\xff]*)", status_line)
    if found is None:
        raise Malformed(f"status line {status_line!r}")
    status, reason = int(found[1]), found[2]
    fields = [_field(line) for line in field_lines]
    body, rest = _body(fields, rest, empty=head or status < 200 or status in (204, 304), ended=ended)
    return Reply(status, reason, fields, body), rest


def _field(line: bytes) -> Field:
    found = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*", line)
    if found is None:
        raise Malformed(f"field {line!r}")
    return found[1], found[2]


def _body(fields: list[Field], rest: bytes, *, empty: bool, ended: bool) -> tuple[bytes, bytes]:
    """RFC 9112 §6.3."""
    coding, length = only(fields, b"Transfer-Encoding"), only(fields, b"Content-Length")
    if coding is not None and (coding.lower() != b"chunked" or length is not None):
        raise Malformed(f"Transfer-Encoding {coding!r}, Content-Length {length!r}")
    if length is not None and not re.fullmatch(rb"\d{1,18}", length):
        raise Malformed(f"Content-Length {length!r}")
    if empty:
        return b"", rest
    if coding is not None:
        return _chunked(rest)
    if length is None:
        if not ended:
            raise Incomplete("the body ends with the connection")
        return rest, b""
    if len(rest) < int(length):
        raise Incomplete(f"{len(rest)} of {int(length)} bytes of body")
    return rest[: int(length)], rest[int(length) :]


def _chunked(rest: bytes) -> tuple[bytes, bytes]:
    """RFC 9112 §7.1; neither extensions nor trailers, which a proxy drops."""
    body = bytearray()
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            raise Incomplete("a chunk's size")
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
            raise Malformed(f"size of a chunk {line!r}")
        size = int(line, 16)
        if len(rest) < size + 2:
            raise Incomplete("a chunk")
        if rest[size : size + 2] != b"\r\n":
            raise Malformed("a chunk that does not end where it should")
        body += rest[:size]
        rest = rest[size + 2 :]
        if size == 0:
            return bytes(body), rest


async def exchange(
    port: int, data: bytes, *, replies: int = 1, until_eof: bool = False, head: bool = False, within: float = 5.0
) -> bytes:
    """Send *data* to that port of 127.0.0.1 over a connection of its own, and return all that came back: up to EOF, or
    (without *until_eof*) until that many final responses are complete. Reading goes on while *data* is being sent.

    Raise ConnectionError where the connection is refused or reset, AssertionError where it takes longer than *within*
    seconds.
    """
    received = bytearray()
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(data)
                while until_eof or not _complete(bytes(received), replies, head=head):
                    piece = await reader.read(65536)
                    if not piece:
                        break
                    received += piece
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise AssertionError(f"not answered within {within} s; so far: {bytes(received[:500])!r}") from None
    return bytes(received)


def _complete(data: bytes, replies: int, *, head: bool) -> bool:
    """Whether *data* begins with that many final responses. What is malformed is never complete: read up to EOF."""
    while replies:
        try:
            reply, data = take(data, head=head, ended=False)
        except (Incomplete, Malformed):
            return False
        replies -= reply.status >= 200
    return True


async def eventually(predicate: Callable[[], object | Awaitable[object]], within: float = 5.0) -> object:
    """Poll until *predicate* (a function, or one whose result is to be awaited) gives something true, and return that;
    raise AssertionError after *within* seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        result = predicate()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if asyncio.get_running_loop().time() >= deadline:
            raise AssertionError(f"not so within {within} s; it was {result!r} at last")
        await asyncio.sleep(_POLL)
