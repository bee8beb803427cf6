"""What a batch with writes waits for, and what is made of the answer."""

import pytest
from hiredis import ReplyError

from proxy.store.redis.connection import Connection, Reply, Unusable, Wait, pack
from proxy.store.redis.durability import wait_for
from tests.unit.store.redis.wire import LastingNote, Note, Wire

GET = pack((b"GET", b"k"))
WAIT = pack((b"WAIT", b"2", b"250"))


def wait_of(durability: str, deadline: float = 1.0) -> Wait:
    wait = wait_for(durability, deadline)
    assert wait is not None
    return wait


@pytest.fixture
async def connection() -> Connection:
    return Connection(wait_of("replicas:2"))


@pytest.fixture
def wire(connection: Connection) -> Wire:
    wire = Wire(connection)
    connection.connection_made(wire)
    return wire


def test_a_store_that_is_as_durable_as_its_server_waits_for_nothing() -> None:
    assert wait_for("memory", 1.0) is None


@pytest.mark.parametrize(
    ("durability", "deadline", "command"),
    [
        ("replicas:1", 1.0, (b"WAIT", b"1", b"250")),
        ("replicas:12", 2.0, (b"WAIT", b"12", b"500")),
        ("fsync", 1.0, (b"WAITAOF", b"1", b"0", b"250")),
        ("fsync", 0.001, (b"WAITAOF", b"1", b"0", b"1")),  # 0 would be for ever
    ],
)
def test_the_wait_is_a_quarter_of_the_deadline(durability: str, deadline: float, command: tuple[bytes, ...]) -> None:
    assert wait_of(durability, deadline).packed == pack(command)


@pytest.mark.parametrize(
    ("durability", "reply", "lacking"),
    [
        ("replicas:2", 2, None),
        ("replicas:2", 3, None),
        ("replicas:2", 1, "1 of 2 replicas had it within 250 ms"),
        ("replicas:2", ReplyError("NOPERM no"), "NOPERM: the user may not run a command, or not on our keys"),
        ("fsync", [1, 0], None),
        ("fsync", [0, 5], "it was not on the server's disk within 250 ms"),
        ("fsync", ReplyError("ERR WAITAOF cannot be used when"), "ERR: the server keeps no append-only file"),
    ],
)
def test_too_few_acknowledgements_are_told(durability: str, reply: Reply, lacking: str | None) -> None:
    assert wait_of(durability).lacking(reply) == lacking


@pytest.mark.parametrize(
    ("durability", "reply"), [("replicas:1", b"1"), ("replicas:1", None), ("fsync", 1), ("fsync", [])]
)
def test_an_answer_that_is_none_ends_the_connection(durability: str, reply: Reply) -> None:
    with pytest.raises(Unusable):
        wait_of(durability).lacking(reply)


async def test_one_wait_stands_behind_all_writes_of_a_batch_and_none_behind_reads(
    connection: Connection, wire: Wire
) -> None:
    connection.send([Note(), Note()])
    assert not connection.waiting
    connection.send([LastingNote(), Note(), LastingNote()])
    assert wire.written == [GET * 2 + pack((b"ECHO", b"1")), GET * 3 + WAIT + pack((b"ECHO", b"2"))]
    assert connection.waiting


async def test_writes_are_believed_once_enough_have_acknowledged_them(connection: Connection, wire: Wire) -> None:
    relieved: list[bool] = []
    connection.relieved = lambda: relieved.append(connection.waiting)
    write, read = LastingNote(), Note()
    connection.send([write, read])
    connection.data_received(b"$-1\r\n$1\r\nr\r\n:2\r\n")
    assert (write.replies, read.replies, relieved) == ([], [], [])
    connection.data_received(b"$1\r\n1\r\n")
    assert (write.replies, read.replies, relieved) == ([None], [b"r"], [False])


async def test_writes_that_too_few_have_acknowledged_are_told_so_and_reads_are_not(
    connection: Connection, wire: Wire
) -> None:
    write, read = LastingNote(), Note()
    connection.send([write, read])
    connection.data_received(b"$-1\r\n$1\r\nr\r\n:1\r\n$1\r\n1\r\n")
    assert (write.replies, write.forgotten) == ([], [(None, "1 of 2 replicas had it within 250 ms")])
    assert read.replies == [b"r"]
    assert not connection.waiting


@pytest.mark.parametrize("reply", [b"$1\r\n2\r\n", b"$-1\r\n", b"*0\r\n"])
async def test_a_wait_that_is_answered_with_something_else_is_not_believed(
    connection: Connection, wire: Wire, reply: bytes
) -> None:
    write = LastingNote()
    connection.send([write])
    connection.data_received(b"$-1\r\n" + reply + b"$1\r\n1\r\n")
    assert (write.replies, write.forgotten, connection.unanswered()) == ([], [], [write])
    assert wire.closing
