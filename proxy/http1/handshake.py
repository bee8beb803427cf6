"""The clients of a TLS listener, from their first byte to the end of the handshake; then each is a connection like any
other.

asyncio could do it by itself (`create_server(ssl=…)`), but there nobody counts the handshakes, and the context of a
listener cannot be changed.
"""

import asyncio
import logging
import ssl
from typing import cast

from proxy.http1.connection import ServerConnection
from proxy.http1.server import Server

WINDOW = 64 * 1024
"""Bytes that are encrypted ahead of a slow client: as much as asyncio keeps for one without TLS."""
_NEVER = 366 * 24 * 3600.0
"""Seconds for what a connection has a deadline of its own: asyncio's for closing TLS would count from the first byte of
what is still to be sent, however well the client reads."""


class Handshakes:
    """Those of one listener. Within `limits.connections`, and each within `limits.head_timeout`."""

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        self.context = context
        """For all that begin from now on."""
        self._server = server
        self._under_way: set[asyncio.Task[None]] = set()

    def protocol(self) -> asyncio.Protocol:
        """For one more client."""
        return _Newcomer(self)

    def begin(self, transport: asyncio.Transport, newcomer: "_Newcomer") -> None:
        """A client has connected. There is no answer yet for one too many: it would have to be encrypted."""
        if len(self._under_way) + len(self._server.connections) >= self._server.limits.connections:
            transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._greet(transport, newcomer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Break off what is under way. Nothing was asked for yet."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _greet(self, transport: asyncio.Transport, newcomer: "_Newcomer") -> None:
        transport.pause_reading()
        hello = newcomer.take()
        if transport.is_closing():
            return
        try:
            async with asyncio.timeout(self._server.limits.head_timeout):
                secured = await self._secure(transport, newcomer, hello)
            if not secured.is_closing():
                self._welcome(secured, transport, newcomer.take())
        except ssl.SSLError as error:
            logging.getLogger(__name__).info("a TLS handshake failed: %s", error.reason or error)
        except OSError:  # gone, or too slow
            transport.abort()
        except Exception:  # a defect of the connection must end it, and nothing else
            logging.getLogger(__name__).exception("a client was lost behind its handshake")
            transport.abort()

    async def _secure(self, transport: asyncio.Transport, newcomer: "_Newcomer", hello: bytes) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        start = loop.start_tls(
            transport,
            newcomer,
            self.context,
            server_side=True,
            ssl_handshake_timeout=_NEVER,
            ssl_shutdown_timeout=_NEVER,
        )
        starting = loop.create_task(start)
        try:
            await asyncio.sleep(
                0
            )  # now the protocol of TLS is in place, to be told that it is connected, and to read on
            loop.call_soon(_feed, cast("asyncio.BufferedProtocol", transport.get_protocol()), hello)
            secured = await starting
        finally:
            starting.cancel()
        if secured is None:  # only where *transport* was closing, says typeshed
            raise ConnectionAbortedError
        return secured

    def _welcome(self, secured: asyncio.Transport, wire: asyncio.Transport, early: bytes) -> None:
        connection = ServerConnection(self._server)
        connection.wire = wire
        secured.set_write_buffer_limits(WINDOW)
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if early:
            connection.data_received(early)


class _Newcomer(asyncio.Protocol):
    """Stands in for the connection that there will be: what is said before there is TLS, or just behind its handshake,
    waits here."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshakes.begin(cast("asyncio.Transport", transport), self)  # uvloop's is none by descent

    def data_received(self, data: bytes) -> None:
        self._said += data

    def take(self) -> bytes:
        """What has come so far."""
        said, self._said = self._said, b""
        return said


def _feed(tls: asyncio.BufferedProtocol, data: bytes) -> None:
    """What was read too early: a transport reads on from the moment it is made."""
    while data:
        room = memoryview(tls.get_buffer(len(data)))
        taken = min(len(room), len(data))
        room[:taken] = data[:taken]
        tls.buffer_updated(taken)
        data = data[taken:]
