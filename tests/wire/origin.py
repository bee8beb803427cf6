"""An origin that writes down every byte, lets the oracle read it, and answers what the oracle says is a request."""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import h11

from tests.wire.oracle import Heard, Oracle

if TYPE_CHECKING:
    from collections.abc import Callable


class Traffic(NamedTuple):
    """What reached the upstream since it was last asked."""

    requests: list[Heard]
    """All that became whole, in order."""
    unfinished: int
    """Bytes of requests that did not."""


class Upstream(asyncio.Protocol):
    """One connection of the proxy."""

    def __init__(self, origin: "RecordingOrigin") -> None:
        self._origin = origin
        self._oracle = Oracle()
        self._transport: asyncio.Transport
        self.port = 0
        """The proxy's, by which its end of the connection is found."""
        self.requests = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.port = transport.get_extra_info("peername")[1]
        self._origin.connections.append(self)

    def data_received(self, data: bytes) -> None:
        try:
            heard = self._oracle.feed(data)
        except h11.RemoteProtocolError as error:
            self._origin.faults.append(f"{error!r} in {data!r}")
            self._transport.abort()
            return
        self._origin.faults += self._oracle.doubts
        self._oracle.doubts = []
        for request in heard:
            self.requests += 1
            self._origin.heard.append(request)
            self._origin.answer(request, self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._origin.connections.remove(self)
        self._origin.broken_off += self.unfinished

    def say(self, data: bytes) -> None:
        """Write."""
        self._transport.write(data)

    def close(self) -> None:
        """End the connection, behind what was said."""
        self._transport.close()

    @property
    def unfinished(self) -> int:
        """Bytes of a request that has begun and is not whole."""
        return self._oracle.unfinished


def echo(request: Heard, upstream: Upstream) -> None:
    """The answer to each request tells which one it was."""
    text = named(request.method, request.target)
    upstream.say(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), b"" if request.method == b"HEAD" else text)
    )


def named(method: bytes, target: bytes) -> bytes:
    """The body of an echo."""
    return b"%b %b" % (method, target)


class RecordingOrigin:
    """Listens on a free port of 127.0.0.1 within `async with`. *faults*: what it was sent and must not be."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[Upstream] = []
        self.heard: list[Heard] = []
        self.broken_off = 0
        """Bytes of requests whose connection ended before they were whole."""
        self.faults: list[str] = []
        self.answer: Callable[[Heard, Upstream], None] = echo
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: Upstream(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.close()
        await self._server.wait_closed()

    def take(self) -> Traffic:
        """What came since the last call; raise AssertionError where any of it was a fault."""
        assert not self.faults, self.faults
        unfinished = self.broken_off + sum(connection.unfinished for connection in self.connections)
        traffic = Traffic(self.heard, unfinished)
        self.heard, self.broken_off = [], 0
        return traffic
