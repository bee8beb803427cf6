"""A raw origin: what it got is kept byte for byte, what it answers is up to the test, broken HTTP included."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import NamedTuple

from tests.support.raw import Field, eventually, only

_LARGEST_HEAD = 1024 * 1024


class Recorded(NamedTuple):
    """A request that arrived whole; the body is without its transfer coding, *raw_head* ends with the empty line."""

    method: bytes
    target: bytes
    fields: list[Field]
    body: bytes
    raw_head: bytes

    def all(self, name: bytes) -> list[bytes]:
        """The values of every field of that name, in order; the case of the name does not matter."""
        return [value for own, value in self.fields if own.lower() == name.lower()]


Behaviour = Callable[[Recorded, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request. The connection is kept for the next one unless the behaviour closes or aborts it."""


class _Peer(asyncio.StreamReaderProtocol):
    """Who closes its side is gone: a behaviour that hangs ends when the proxy gives up."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class Origin:
    """Listens on 127.0.0.1 within `async with`; *port* 0 takes a free one, and keeps it over `stop` and `start`.

    `requests`: all that arrived whole, in order. `connections`: how many were ever accepted; `open`: how many are open.
    An error in a behaviour, or a request that cannot be read, is raised by `stop`: no test passes over it.
    """

    def __init__(self, behaviour: Behaviour | None = None, port: int = 0) -> None:
        self.port = port
        self.requests: list[Recorded] = []
        self.connections = 0
        self._behaviour = respond() if behaviour is None else behaviour
        self._server: asyncio.Server | None = None
        self._serving: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(not task.done() for task, _ in self._serving)

    def behave(self, behaviour: Behaviour) -> None:
        """Answer so from the next request on."""
        self._behaviour = behaviour

    async def until(self, predicate: Callable[[], object], within: float = 5.0) -> None:
        """Wait until *predicate* is true; raise AssertionError after *within* seconds."""
        await eventually(predicate, within)

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()

        def peer() -> _Peer:
            return _Peer(asyncio.StreamReader(limit=_LARGEST_HEAD, loop=loop), self._accept, loop=loop)

        self._server = await loop.create_server(peer, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection, and refuse new ones; raise what went wrong in a behaviour."""
        if self._server is not None:
            self._server.close()
            self._server = None
        serving, self._serving = self._serving, []
        for task, writer in serving:
            writer.transport.abort()
            task.cancel()
        for outcome in await asyncio.gather(*(task for task, _ in serving), return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def __aenter__(self) -> "Origin":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted while it stopped
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.append((task, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while not writer.is_closing():
                request = await _read(reader)
                self.requests.append(request)
                await self._behaviour(request, writer)


async def _read(reader: asyncio.StreamReader) -> Recorded:
    """The next request; raise IncompleteReadError where the connection ends before it is whole."""
    raw_head = await reader.readuntil(b"\r\n\r\n")
    request_line, *lines = raw_head[:-4].split(b"\r\n")
    method, target, _version = request_line.split(b" ", 2)
    parts = [line.partition(b":") for line in lines]
    fields = [(name, value.strip(b" \t")) for name, _, value in parts]
    if only(fields, b"Transfer-Encoding") is None:
        body = await reader.readexactly(int(only(fields, b"Content-Length") or 0))
    else:
        body = await _read_chunked(reader)
    return Recorded(method, target, fields, body, raw_head)


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # a trailer
    return b"".join(pieces)


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write; raise ConnectionResetError where the peer is gone."""
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)
    await writer.drain()


def head(status: int, fields: Sequence[Field]) -> bytes:
    """The head of a response, with just these fields."""
    reason = HTTPStatus(status).phrase.encode("ascii") if status in HTTPStatus.__members__.values() else b"Odd"
    lines = [b"HTTP/1.1 %d %s" % (status, reason), *(b"%s: %s" % field for field in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def respond(status: int = 200, fields: Sequence[Field] = (), body: bytes = b"") -> Behaviour:
    """A whole response, with Content-Length where the status has one; without the body where a HEAD asked."""
    length = [] if status in (204, 304) else [(b"Content-Length", b"%d" % len(body))]

    async def behaviour(request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, head(status, [*fields, *length]) + (b"" if request.method == b"HEAD" else body))

    return behaviour


def respond_chunked(
    pieces: Sequence[bytes], status: int = 200, fields: Sequence[Field] = (), trailers: Sequence[Field] = ()
) -> Behaviour:
    """A whole response, a chunk for each piece."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    trailer = b"".join(b"%s: %s\r\n" % field for field in trailers)
    return raw(head(status, [*fields, (b"Transfer-Encoding", b"chunked")]) + chunks + b"0\r\n" + trailer + b"\r\n")


def raw(data: bytes, close: bool = False) -> Behaviour:
    """Just these bytes; then, if *close*, the end of the connection."""

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, data)
        if close:
            writer.close()

    return behaviour


def cut(head: bytes, part: bytes = b"") -> Behaviour:
    """A head and a part of what it announces, then the end of the connection."""
    return raw(head + part, close=True)


def slowly(pieces: Sequence[bytes], pause: float) -> Behaviour:
    """Each piece *pause* seconds after the one before."""

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            await asyncio.sleep(pause)
            await send(writer, piece)

    return behaviour


def hang() -> Behaviour:
    """No answer, until the proxy closes the connection or the origin stops."""

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed()

    return behaviour


def reset() -> Behaviour:
    """A RST instead of an answer."""

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        at_once = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    return behaviour


def after(event: asyncio.Event, behaviour: Behaviour) -> Behaviour:
    """*behaviour*, as soon as the test sets *event*."""

    async def waiting(request: Recorded, writer: asyncio.StreamWriter) -> None:
        await event.wait()
        await behaviour(request, writer)

    return waiting


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first for the first request, and so on; the last for all that follow."""
    left = list(behaviours)

    async def behaviour(request: Recorded, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return behaviour
