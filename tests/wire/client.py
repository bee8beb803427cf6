"""A client that says what it is told, byte by byte where it must, and reads with care."""

import asyncio
import socket
from collections.abc import Iterable
from contextlib import suppress

from proxy.http1.connection import ServerConnection
from tests.support.raw import Incomplete, Reply, take

WITHIN = 5.0


class Client:
    """One connection, whichever kind of socket it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self.ended = False

    async def say(self, data: bytes) -> None:
        """Send; who does not listen any more need not."""
        with suppress(ConnectionError):
            await self._loop.sock_sendall(self._sock, data)

    def half_close(self) -> None:
        """Nothing more will be said."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Gone."""
        self._sock.close()

    async def reply(self, *, head: bool = False) -> Reply:
        """The next final response; raise AssertionError where the connection ends without one."""
        while True:
            try:
                reply, self._received = take(self._received, head=head, ended=self.ended)
            except Incomplete:
                assert not self.ended, f"the connection has ended with {self._received!r}"
                self._received += await self.read()
            else:
                if reply.status >= 200:
                    return reply

    async def read(self) -> bytes:
        """Some bytes; none: the connection has ended, or was reset."""
        try:
            async with asyncio.timeout(WITHIN):
                data = await self._loop.sock_recv(self._sock, 65536)
        except ConnectionError:
            data = b""
        except TimeoutError:
            raise AssertionError(f"nothing within {WITHIN} s; so far: {self._received[:500]!r}") from None
        self.ended = not data
        return data

    async def rest(self) -> bytes:
        """All bytes up to the end of the connection."""
        while not self.ended:
            self._received += await self.read()
        return self._received


async def feed(connection: asyncio.Protocol, transport: asyncio.Transport, pieces: Iterable[bytes]) -> None:
    """Let *connection* read just these pieces, one a read, as the loop would: not while it has paused, and nothing
    after it has closed. What a socket does with two writes is chance; this is not."""
    for piece in pieces:
        while not transport.is_reading() and not transport.is_closing():
            await asyncio.sleep(0)
        if transport.is_closing():
            return
        connection.data_received(piece)
        await asyncio.sleep(0)


class Direct:
    """The proxy's end of a client's connection whose reads are chosen. Its answers go through a real socket."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport
        self.client: Client

    async def open(self) -> None:
        """Connect both ends."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: self._connection, theirs)
        self._transport = transport
        self._connection.peer = "127.0.0.1"  # as it would be, on a socket of the internet's family
        self.client = Client(ours)

    async def feed(self, pieces: Iterable[bytes]) -> None:
        """See `feed`."""
        await feed(self._connection, self._transport, pieces)
