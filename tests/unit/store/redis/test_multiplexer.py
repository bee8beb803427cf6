"""What is kept over a reconnect, and in which order it leaves again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.deadlines import Deadlines
from proxy.store.base import StoreUnavailable
from proxy.store.redis.connection import Connection, Identity, Unusable, pack
from proxy.store.redis.handshake import Ready
from proxy.store.redis.multiplexer import BATCH_BYTES, BATCH_COMMANDS, Multiplexer
from tests.support.raw import eventually
from tests.unit.store.redis.wire import Note, Wire

FIRST = Identity(b"7", b"127.0.0.1:1234")


def unusable(reply: object) -> None:
    raise Unusable("of no use")


class Server:
    """Makes connections; so many attempts as *failures* says come to nothing before."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.previous: list[Identity | None] = []
        """Whom each attempt was to see dead."""
        self.failures = 0

    def made(self) -> Connection:
        connection = Connection()
        self.wires.append(Wire(connection))
        connection.connection_made(self.wires[-1])
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
    await multiplexer._let_go()


async def test_what_was_not_answered_leaves_again_in_its_order_before_what_came_later(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    notes = [Note(key=b"%d" % n) for n in range(4)]
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


async def test_nothing_is_repeated_before_the_old_connection_is_known_dead_however_many_attempts_that_takes(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    server.failures = 2
    multiplexer.send(Note())
    await asyncio.sleep(0)
    first.drop("lost")
    await eventually(lambda: len(server.wires) == 2)
    assert server.previous == [FIRST, FIRST, FIRST]


async def test_a_command_that_nobody_waits_for_any_more_may_still_be_applied(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    note = Note()
    multiplexer.send(note)
    await asyncio.sleep(0)
    note.fail("too late")
    first.drop("lost")
    await eventually(lambda: len(server.wires) == 2)
    assert server.previous == [FIRST]


async def test_a_connection_that_owed_nothing_may_live(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    multiplexer.send(Note())
    await asyncio.sleep(0)
    first.data_received(b"$-1\r\n$1\r\n1\r\n")
    first.drop("lost")
    await eventually(lambda: len(server.wires) == 2)
    assert server.previous == [None]


async def test_what_leaves_at_once_is_cut_into_batches_whose_replies_can_be_held(
    multiplexer: Multiplexer, server: Server
) -> None:
    small = [Note() for _ in range(2 * BATCH_COMMANDS + 1)]
    large = [Note(key=bytes(BATCH_BYTES // 2)) for _ in range(3)]
    for note in small + large:
        multiplexer.send(note)
    await asyncio.sleep(0)
    counts = [data.count(b"GET") for data in server.wires[0].written]
    assert counts == [BATCH_COMMANDS, BATCH_COMMANDS, 3, 1]


async def test_what_is_turned_away_rests_and_is_sent_again_and_is_no_copy_that_may_be_applied(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    note, other = Note(), Note(key=b"other")
    note.key = b"k"
    multiplexer.send(note)
    multiplexer.send(other)
    await asyncio.sleep(0)
    first.data_received(b"-LOADING it loads\r\n$-1\r\n$1\r\n1\r\n")
    assert (note.replies, note.copies, other.replies) == ([], 0, [None])
    await eventually(lambda: len(server.wires[0].written) == 2)
    assert server.wires[0].written[1] == note.packed + pack((b"ECHO", b"2"))
    first.data_received(b"$-1\r\n$1\r\n2\r\n")
    assert note.replies == [None]


async def test_who_asks_this_very_server_is_told_that_it_turns_him_away(
    multiplexer: Multiplexer, first: Connection
) -> None:
    question = asyncio.create_task(multiplexer.ask((b"GET", b"k"), float("inf")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.data_received(b"-MOVED 1 h:1\r\n$1\r\n1\r\n")
    assert str(await question) == "MOVED 1 h:1"


async def test_a_single_server_that_is_part_of_a_cluster_is_of_no_use(
    multiplexer: Multiplexer, first: Connection
) -> None:
    note = Note()
    note.key = b"k"
    multiplexer.send(note)
    await asyncio.sleep(0)
    first.data_received(b"-MOVED 1 h:1\r\n$1\r\n1\r\n")
    assert note.failures == ["MOVED: the server is part of a cluster"]


async def test_what_rests_when_the_connection_ends_is_sent_once(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    note, broken = Note(), Note(unusable)
    note.key = b"k"
    multiplexer.send(note)
    multiplexer.send(broken)
    await asyncio.sleep(0)
    first.data_received(b"-TRYAGAIN later\r\n$-1\r\n$1\r\n1\r\n")
    await eventually(lambda: len(server.wires) == 2 and server.wires[1].written)
    assert server.wires[1].written == [note.packed + broken.packed + pack((b"ECHO", b"1"))]
    assert multiplexer.abandon() == [note, broken]


async def test_a_server_that_is_given_up_gives_all_back_in_order_and_is_not_connected_to_again(
    multiplexer: Multiplexer, first: Connection, server: Server
) -> None:
    sent, resting, queued = (Note(key=b"%d" % n) for n in range(3))
    resting.key = b"1"
    multiplexer.send(resting)
    await asyncio.sleep(0)
    first.data_received(b"-LOADING it loads\r\n$1\r\n1\r\n")
    multiplexer.send(sent)
    await asyncio.sleep(0)
    multiplexer.send(queued)
    assert multiplexer.abandon() == [sent, queued, resting]
    await multiplexer.close()
    assert len(server.previous) == 0
    assert [note.failures for note in (sent, queued, resting)] == [[], [], []]


async def test_a_multiplexer_that_is_not_open_or_no_longer_answers_all_the_same(
    multiplexer: Multiplexer, server: Server
) -> None:
    early, late, follow = Note(), Note(), Note()
    Multiplexer(server.connect, deadline=5.0, deadlines=Deadlines()).send(early)
    assert early.failures == [], "never from within"
    await multiplexer.close()
    multiplexer.send(late)
    multiplexer.insist(follow)
    assert late.failures == [], "never from within"
    await asyncio.sleep(0)
    assert early.failures == ["the store is not open"]
    assert late.failures == ["the store is closing"]
    assert follow.failures == ["the store is closed"]
