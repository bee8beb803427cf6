"""The stand on which responses are tried: the upstream says one, a client is given what the proxy makes of it."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from typing import assert_never

from tests.wire.client import WITHIN, Client, feed
from tests.wire.oracle import Given, Heard, ResponseReader
from tests.wire.origin import Upstream, echo, named
from tests.wire.responses.answer import Answer, Broken, Passed, Turned, Unusable
from tests.wire.row import HOST, lines
from tests.wire.stand import Stand


async def soon(stand: Stand, gone: Upstream) -> None:
    """The connection ends, if not at once."""
    async with asyncio.timeout(WITHIN):
        while gone in stand.origin.connections:
            await asyncio.sleep(0)


class Trial:
    """One row, tried once. *cuts*: where the response is cut, one read a piece; None: as the socket has it.
    *keyed*: asked for by a POST with a key."""

    def __init__(self, stand: Stand, row: Answer, *, keyed: bool, cuts: Sequence[int] | None = None) -> None:
        self._stand = stand
        self._row = row
        self._cuts = cuts
        self._key = stand.key() if keyed else b""
        self._method = b"POST" if keyed else row.method
        self._speaking: list[asyncio.Task[None]] = []
        self._asked: list[Upstream] = []

    async def run(self) -> None:
        """Ask; judge the answer, and the record; see what the next client is given."""
        origin = self._stand.origin
        origin.answer = self._answer
        fields = [b"Idempotency-Key: " + self._key] if self._key else []
        client = await self._stand.connect()
        with closing(client):
            await client.say(lines(self._method + b" /row HTTP/1.1", HOST, *fields))
            given = await _read(client, self._method)
            self._judge(given)
        await asyncio.gather(*self._speaking)
        if not self._row.reused:
            await soon(self._stand, self._asked[-1])
        assert len(origin.take().requests) == len(self._asked) <= (1 if self._key else 2)
        if self._key:
            await self._recorded()
        await self._next()

    def _answer(self, _request: Heard, upstream: Upstream) -> None:
        self._asked.append(upstream)
        if self._cuts is None:
            upstream.say(self._row.data)
            self._end(upstream)
        else:
            self._speaking.append(asyncio.get_running_loop().create_task(self._speak(upstream, self._cuts)))

    async def _speak(self, upstream: Upstream, cuts: Sequence[int]) -> None:
        data = self._row.data
        connections = self._stand.proxy._app._pool._open
        (connection,) = (own for own in connections if own._transport.get_extra_info("sockname")[1] == upstream.port)
        await feed(connection, connection._transport, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])])
        self._end(upstream)

    def _end(self, upstream: Upstream) -> None:
        if self._row.closes:
            upstream.close()

    def _judge(self, given: Given) -> None:
        match self._row.fate:
            case Passed(status, body, interim):
                assert (given.status, given.body, tuple(given.interim)) == (status, body, interim)
                assert given.whole
                assert bool(given.all(b"Idempotency-Expires")) is bool(self._key)
            case Turned(status, body):
                assert (given.status, given.body, given.whole) == (status, body, True)
                assert given.all(b"Idempotency-Expires") == ()
            case Broken(body, status):
                assert (given.status, given.body, given.whole) == (status, body, False)
            case Unusable():
                assert (given.status, given.whole) == (504, True)
                kind = "upstream_outcome_unknown" if self._key else "upstream_timeout"
                assert json.loads(given.body)["Type"] == kind
            case _:
                assert_never(self._row.fate)

    async def _recorded(self) -> None:
        """What is known of the key afterwards."""
        reply = await self._ask(b"GET /responses/%b/ HTTP/1.1" % self._key)
        if isinstance(self._row.fate, Turned):
            assert reply.status == 404
            return
        state, status = (
            (b"unknown", 504) if isinstance(self._row.fate, Unusable) else (b"completed", self._row.fate.status)
        )
        assert reply.all(b"Idempotency-State") == (state,)
        record = json.loads(reply.body)
        assert record.get("Truncated", False) is isinstance(self._row.fate, Broken)
        assert record["StatusCode"] == str(status)

    async def _next(self) -> None:
        """Nothing of this response is left for the next client; and its connection is used again, or not."""
        carriers: list[Upstream] = []

        def answer(request: Heard, upstream: Upstream) -> None:
            carriers.append(upstream)
            echo(request, upstream)

        self._stand.origin.answer = answer
        given = await self._ask(b"GET /next HTTP/1.1")
        assert (given.status, given.body, given.whole) == (200, named(b"GET", b"/next"), True)
        assert (carriers == self._asked[-1:]) is self._row.reused
        self._stand.origin.take()

    async def _ask(self, request_line: bytes) -> Given:
        client = await self._stand.connect()
        with closing(client):
            await client.say(lines(request_line, HOST))
            return await _read(client, b"GET")


async def _read(client: Client, method: bytes) -> Given:
    """The one response, or what there is of it, as h11 reads it."""
    reader = ResponseReader(method)
    while not reader.given.whole and not client.ended:
        reader.feed(await client.read())
    return reader.given
