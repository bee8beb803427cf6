"""What is kept over a reconnect, and in which order it leaves again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.deadlines import Deadlines
from proxy.store.base import StoreUnavailable
from proxy.store.redis.connection import Connection, Identity, pack
from proxy.store.redis.handshake import Ready
from proxy.store.redis.multiplexer import BATCH_COMMANDS, Multiplexer
from tests.support.raw import eventually
from tests.unit.store.redis.wire import Note, Wire

FIRST = Identity(b"7", b"127.0.0.1:1234")


class Server:
    """Makes connections; the first *failures* attempts come to nothing."""

    def __init__(self, failures: int = 0) -> None:
        self.wires: list[Wire] = []
        self.previous: list[Identity | None] = []
        self.failures = failures

    def made(self) -> Connection:
        connection, wire = Connection(), Wire()
        connection.connection_made(wire)
        self.wires.append(wire)
        return connection

    async def connect(self, previous: Identity | None) -> Ready:
        self.previous.append(previous)
        if len(self.previous) <= self.failures:
            raise StoreUnavailable("not yet")
        return Ready(self.made(), alone=True)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def first(server: Server) -> Connection:
    connection = server.made()
    connection.identity = FIRST
    return connection


@pytest.fixture
async def multiplexer(server: Server, first: Connection) -> AsyncIterator[Multiplexer]:
    multiplexer = Multiplexer(server.connect, deadline=5.0, deadlines=Deadlines())
    multiplexer.open(first)
    yield multiplexer
    for wire in server.wires:
        wire.closing = True
    multiplexer.cancel()
    await asyncio.sleep(0)


async def test_what_was_not_answered_leaves_again_in_its_order_before_what_came_later(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    notes = [Note(name=b"%d" % n) for n in range(4)]
    multiplexer.send(notes[0])
    multiplexer.send(notes[1])
    await asyncio.sleep(0)
    notes[0].fail("meanwhile too late")
    first.drop("lost")
    multiplexer.send(notes[2])
    await eventually(lambda: len(server.wires) == 2 and server.wires[1].written)
    multiplexer.send(notes[3])
    await asyncio.sleep(0)
    assert server.wires[1].written == [
        notes[1].packed + notes[2].packed + pack((b"ECHO", b"1")),
        notes[3].packed + pack((b"ECHO", b"2")),
    ]
