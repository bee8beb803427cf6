"""Bodies, counted by ourselves: by length, in chunks (RFC 9112 §7.1), or until the connection closes.

A reader is fed what the socket gave, and returns the content in it and the bytes behind the end of the body.
"""

import re
from enum import Enum, auto
from typing import Protocol, assert_never

from proxy.http1.message import CHUNKED, UNTIL_CLOSE, Limits


class MalformedBody(Exception):
    """The body breaks the rules of its framing: nothing after this byte can be trusted. *content*: what came before it,
    and was not returned yet."""

    content = b""


class BodyReader(Protocol):
    """Reads one body."""

    done: bool
    """The body is complete."""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(content, rest): *rest* is empty unless *done*. Raise MalformedBody."""


class LengthReader:
    """A body of a known length, greater than 0."""

    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, b""
        self.done = True
        if left == 0:
            return data, b""
        return data[:left], data[left:]


class CloseReader:
    """A response's body that ends with its connection."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


_SIZE_DIGITS = 15
"""2^60 bytes are enough for a chunk."""
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,%d})((?:[ \t]*;[\t !-~\x80-\xff]*)?)" % _SIZE_DIGITS).fullmatch
_TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*").fullmatch


class _Line(Enum):
    """What the next line of the chunked coding is."""

    SIZE = auto()
    END_OF_CHUNK = auto()
    TRAILER = auto()


class ChunkedReader:
    """A body in chunks. Extensions are ignored, trailers dropped; both have a limit. Only CRLF ends a line."""

    __slots__ = ("_awaits", "_buffer", "_left", "_limits", "_trailers", "done")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = b""
        self._left = 0
        """Bytes of the chunk that are still to come; 0: a line is to come."""
        self._awaits = _Line.SIZE
        self._trailers = 0
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        pieces: list[bytes] = []
        try:
            return self._feed(self._buffer + data, pieces)
        except MalformedBody as error:
            error.content = b"".join(pieces)
            raise

    def _feed(self, data: bytes, pieces: list[bytes]) -> tuple[bytes, bytes]:
        self._buffer = b""
        position = 0
        while not self.done:
            if self._left:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            end = data.find(b"\r\n", position)
            if end < 0:
                self._keep(data[position:])
                position = len(data)
                break
            self._line(data[position:end])
            position = end + 2
        return b"".join(pieces), data[position:]

    def _keep(self, part: bytes) -> None:
        """Keep an unfinished line, where it can still become one."""
        longest = {_Line.SIZE: self._limits.chunk_extensions + _SIZE_DIGITS, _Line.END_OF_CHUNK: 0}.get(
            self._awaits, self._limits.trailers
        )
        if len(part.removesuffix(b"\r")) > longest or b"\n" in part:
            raise MalformedBody("a line of the chunked coding is too long, or does not end with CRLF")
        self._buffer = part

    def _line(self, line: bytes) -> None:
        match self._awaits:
            case _Line.SIZE:
                size = _SIZE_LINE(line)
                if size is None or len(size[2]) > self._limits.chunk_extensions:
                    raise MalformedBody("not a chunk size")
                self._left = int(size[1], 16)
                self._awaits = _Line.END_OF_CHUNK if self._left else _Line.TRAILER
            case _Line.END_OF_CHUNK:
                if line:
                    raise MalformedBody("a chunk does not end where its size says")
                self._awaits = _Line.SIZE
            case _Line.TRAILER:
                self._trailers += len(line) + 2
                if self._trailers > self._limits.trailers or (line and _TRAILER_LINE(line) is None):
                    raise MalformedBody("trailers that are too large, or no fields")
                self.done = not line
            case _:
                assert_never(self._awaits)


def body_reader(length: int, limits: Limits) -> BodyReader | None:
    """The reader for a head's *length*; None where there is no body."""
    if length == 0:
        return None
    if length == CHUNKED:
        return ChunkedReader(limits)
    if length == UNTIL_CLOSE:
        return CloseReader()
    return LengthReader(length)


def chunk(data: bytes) -> bytes:
    """*data*, not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
