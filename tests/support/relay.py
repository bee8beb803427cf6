"""A relay on loopback that stands between a client and a server, and does to their bytes what networks do."""

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

Change = Callable[[bytes], bytes]


def unchanged(data: bytes) -> bytes:
    return data


class Link:
    """One connection through the relay."""

    def __init__(self) -> None:
        self.requests_pass = asyncio.Event()
        """Cleared: what the client sends is held, and outlives the client's connection."""
        self.requests_pass.set()
        self.held = bytearray()
        """What was ever held."""
        self.delay = 0.0
        """Seconds that each piece of what the server sends is late."""
        self.ended = False
        self.change_replies: Change = unchanged
        """Done to every piece of what the server sends; b"": it is lost."""


class Relay:
    """Listens on a port of its own, with TLS where *tls* is given."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.links: list[Link] = []
        self.change_replies: Change = unchanged
        """Of links to come."""
        self.delay = 0.0
        """Of links to come."""
        self.holds = False
        """Whether links to come begin with what their clients send held."""
        self.port = 0
        self._target = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def open(self) -> list[Link]:
        """The connections that there are."""
        return [link for link in self.links if not link.ended]

    def hold(self) -> None:
        """Hold what clients send, on every link now and to come: to them the server is a black hole."""
        self.holds = True
        for link in self.links:
            link.requests_pass.clear()

    def let_go(self) -> None:
        """Let it pass, also what was sent by those who have gone."""
        self.holds = False
        for link in self.links:
            link.requests_pass.set()

    def treat_replies(self, change: Change = unchanged, delay: float = 0.0) -> None:
        """Do this to what the server sends, on every link now and to come."""
        self.change_replies, self.delay = change, delay
        for link in self.links:
            link.change_replies, link.delay = change, delay

    def reset(self) -> None:
        """Break every connection."""
        for task in self._tasks:
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._link(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link()
        link.change_replies, link.delay = self.change_replies, self.delay
        if self.holds:
            link.requests_pass.clear()
        self.links.append(link)
        try:
            await self._through(link, reader, writer)
        except* OSError:
            pass  # nobody listens there; or one of the two was reset
        finally:
            writer.transport.abort()
            link.ended = True

    async def _through(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)

        async def forward() -> None:
            while data := await reader.read(65536):
                if not link.requests_pass.is_set():
                    link.held += data
                await link.requests_pass.wait()
                server_writer.write(data)
            await link.requests_pass.wait()
            server_writer.close()

        async def back() -> None:
            while data := await server_reader.read(65536):
                if link.delay:
                    await asyncio.sleep(link.delay)
                writer.write(link.change_replies(data))
            writer.close()

        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(forward())
                directions.create_task(back())
        finally:
            server_writer.transport.abort()
