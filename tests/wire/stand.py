"""The stand on which rows are tried: a recording origin, a proxy in front of it, and a client."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from itertools import count
from types import TracebackType
from typing import Self, assert_never

from proxy.http1.connection import ServerConnection
from tests.support.proxy import Proxy, refused
from tests.support.raw import eventually
from tests.wire.client import Client, Direct
from tests.wire.origin import RecordingOrigin, Traffic, named
from tests.wire.row import GET, HOST, KEY, KEYED, POST, Fate, Forwarded, Refused, Row, Unanswered, lines

BODY_LIMIT = 4096
"""Of guarded requests, in this stand: rows need not be megabytes."""
SETTINGS = {"store.url": "memory://", "limits.body": BODY_LIMIT, "upstream.idle_timeout": "60s"}
"""No connection ends for being idle: whichever ends, ends for what was said on it."""
BEFORE = (
    lines(
        POST.replace(b"/pay", b"/before"), HOST, KEYED.replace(b"wire", b"good"), b"Content-Length: 6", body=b"before"
    ),
    Forwarded(b"POST", b"/before", b"before"),
)
"""A good request in front of a row."""
AFTER = lines(GET.replace(b"/pay", b"/after"), HOST), Forwarded(b"GET", b"/after")
"""A good request behind a row."""


class Stand:
    """Within `async with`."""

    def __init__(self) -> None:
        self.origin = RecordingOrigin()
        self.proxy: Proxy
        self._running: AsyncExitStack
        self._keys = count()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.origin)
            upstream = f"http://127.0.0.1:{self.origin.port}"
            self.proxy = await stack.enter_async_context(Proxy({**SETTINGS, "upstream.url": upstream}))
            self._running = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    # -- connections --------------------------------------------------------------------------------------------

    async def connect(self) -> Client:
        """A client at the proxy's port."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.proxy.port))
        return Client(sock)

    async def direct(self) -> Direct:
        """The inside of a connection: see `Direct`."""
        direct = Direct(ServerConnection(self.proxy._app._server))
        await direct.open()
        return direct

    def key(self) -> bytes:
        """A key that nobody has used, as long as KEY."""
        return b"wire-key-%010d" % next(self._keys)

    # -- rows ---------------------------------------------------------------------------------------------------

    async def whole(self, row: Row) -> None:
        """All in one write."""
        client = await self.connect()
        with closing(client):
            key = self.key()
            await client.say(row.data.replace(KEY, key))
            await self._judge(client, row.fates, key, stays=row.stays)

    async def pipelined(self, row: Row) -> None:
        """Behind a good request and before another, all in one write."""
        client = await self.connect()
        with closing(client):
            key = self.key()
            before = BEFORE[0].replace(KEY[5:], key[5:])
            amid = isinstance(row.fates[-1], Unanswered)  # what follows would be its rest
            await client.say(before + row.data.replace(KEY, key) + (b"" if amid else AFTER[0]))
            fates = [BEFORE[1], *row.fates, *([AFTER[1]] if row.stays else [])]
            await self._judge(client, fates, key, stays=row.stays)

    async def cut(self, row: Row, cuts: Sequence[int]) -> None:
        """In pieces, cut at these positions: one read each."""
        direct = await self.direct()
        with closing(direct.client):
            key = self.key()
            data = row.data.replace(KEY, key)
            pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)])]
            await direct.feed(pieces)
            await self._judge(direct.client, row.fates, key, stays=row.stays, direct=direct)

    async def _judge(
        self, client: Client, fates: Sequence[Fate], key: bytes, *, stays: bool, direct: Direct | None = None
    ) -> None:
        """Is every request answered as it should be, in order, and did just that reach the upstream?"""
        for fate in fates:
            await _answered(client, fate)
        if stays:  # the connection is where it should be: the next request is read as what it is
            await (direct.feed([AFTER[0]]) if direct else client.say(AFTER[0]))
            await _answered(client, AFTER[1])
        else:
            assert await client.rest() == b""
        await self._reached([*fates, AFTER[1]] if stays else fates, key)

    async def _reached(self, fates: Sequence[Fate], key: bytes) -> None:
        streamed = any(not isinstance(fate, Forwarded) and fate.streamed for fate in fates)
        if streamed:  # it was begun there, and is broken off
            await eventually(lambda: not any(upstream.unfinished for upstream in self.origin.connections))
        traffic = self.origin.take()
        _same(traffic, [fate for fate in fates if isinstance(fate, Forwarded)], key)
        assert streamed or not traffic.unfinished, f"{traffic.unfinished} bytes of an unfinished request"

    async def quiet(self) -> None:
        """Nothing of what was tried reaches the upstream later."""
        client = await self.connect()
        with closing(client):
            await client.say(AFTER[0])
            await _answered(client, AFTER[1])
        _same(self.origin.take(), [AFTER[1]], b"")


def _same(traffic: Traffic, expected: Sequence[Forwarded], key: bytes) -> None:
    """What h11 read at the upstream is just what was expected."""
    heard = [(request.method, request.target, request.body) for request in traffic.requests]
    assert heard == [(fate.method, fate.target, fate.body.replace(KEY, key)) for fate in expected]
    for request, fate in zip(traffic.requests, expected):
        for name, values in fate.fields:
            assert request.all(name) == tuple(value.replace(KEY, key) for value in values), (name, request.fields)


async def _answered(client: Client, fate: Fate) -> None:
    match fate:
        case Forwarded(method, target):
            reply = await client.reply(head=method == b"HEAD")
            expected = b"" if method == b"HEAD" else named(method, target)
            assert (reply.status, reply.body) == (200, expected), reply
        case Refused(status, kind, _, bodiless):
            reply = await client.reply(head=bodiless)
            assert reply.status == status, reply
            if not bodiless:
                refused(reply, status, kind)
        case Unanswered():
            client.half_close()
            assert await client.rest() == b""
        case _:
            assert_never(fate)
