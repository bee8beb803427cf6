"""Batches and their replies, byte by byte: what is believed, and what is not."""

import asyncio
import logging
from typing import cast

import pytest
from hiredis import ReplyError

from proxy.store.redis.connection import Connection, Reply, Unusable, pack
from tests.unit.store.redis.wire import Note, Wire


@pytest.fixture
async def connection() -> Connection:
    return Connection()


@pytest.fixture
def wire(connection: Connection) -> Wire:
    wire = Wire(connection)
    connection.connection_made(wire)
    return wire


async def test_a_batch_is_one_write_closed_with_an_echo_of_its_number(connection: Connection, wire: Wire) -> None:
    connection.send([Note(), Note()])
    connection.send([Note()])
    get = pack((b"GET", b"k"))
    assert wire.written == [get + get + pack((b"ECHO", b"1")), get + pack((b"ECHO", b"2"))]


async def test_replies_are_used_once_their_batch_is_complete_however_they_are_cut(
    connection: Connection, wire: Wire
) -> None:
    stream = b"$-1\r\n$1\r\nx\r\n$1\r\n1\r\n-OOM no\r\n$1\r\n2\r\n"
    first, second = [Note(), Note()], [Note()]
    connection.send(first)
    connection.send(second)
    for position in range(len(stream)):
        connection.data_received(stream[position : position + 1])
        complete = position + 1 >= len(b"$-1\r\n$1\r\nx\r\n$1\r\n1\r\n")
        assert [note.replies for note in first] == ([[None], [b"x"]] if complete else [[], []])
    assert [(type(reply), str(reply)) for reply in second[0].replies] == [(ReplyError, "OOM no")]
    assert not connection.owes
    assert (connection.commands_in_flight, connection.bytes_in_flight, connection.answered) == (0, 0, 2)


@pytest.mark.parametrize(
    "stream",
    [
        b"$-1\r\n$-1\r\n$1\r\n1\r\n",  # one too many
        b"$1\r\n1\r\n$-1\r\n",  # one too few, and the next batch's
        b"$-1\r\n$1\r\n2\r\n",  # of another batch
        b"$-1\r\n:1\r\n",
        b"$-1\r\n-NOPERM\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
async def test_replies_out_of_step_are_not_believed(connection: Connection, wire: Wire, stream: bytes) -> None:
    notes = [Note(), Note()]
    for note in notes:
        connection.send([note])
    connection.data_received(stream)
    connection.data_received(b"$1\r\n1\r\n$-1\r\n$1\r\n2\r\n")
    assert [note.replies for note in notes] == [[], []]
    assert connection.unanswered() == notes
    assert connection.lost.done()
    assert connection.owes
    assert wire.closing


async def test_a_reply_that_nobody_asked_for_ends_the_connection(connection: Connection, wire: Wire) -> None:
    connection.data_received(b"-DENIED Redis is running in protected mode\r\n")
    assert connection.lost.result() == "DENIED: the server is in protected mode"
    assert wire.closing


async def test_a_reply_of_which_nothing_can_be_made_is_repeated_elsewhere_with_all_behind_it(
    connection: Connection, wire: Wire
) -> None:
    def refuse(reply: Reply) -> None:
        raise Unusable("a replica")

    before, bad, behind = Note(), Note(refuse), Note()
    connection.send([before, bad, behind])
    connection.data_received(b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\n1\r\n")
    assert before.replies == [b"a"]
    assert connection.unanswered() == [bad, behind]
    assert connection.lost.result() == "a replica"


async def test_a_handler_that_raises_harms_nobody_else(
    connection: Connection, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(reply: Reply) -> None:
        raise ZeroDivisionError

    bad, good = Note(defect), Note()
    connection.send([bad, good])
    connection.data_received(b"$1\r\na\r\n$1\r\nb\r\n$1\r\n1\r\n")
    assert good.replies == [b"b"]
    assert not connection.lost.done()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert connection.unanswered() == []


async def test_what_has_failed_keeps_its_place_in_the_batch_and_is_not_answered_again(
    connection: Connection, wire: Wire
) -> None:
    late, other = Note(), Note()
    connection.send([late, other])
    late.fail("too late")
    late.fail("and again")
    connection.data_received(b"$1\r\na\r\n$1\r\nb\r\n$1\r\n1\r\n")
    assert (late.replies, late.failures, other.replies) == ([], ["too late"], [b"b"])


async def test_what_is_sent_on_a_lost_connection_is_kept_and_was_never_written(
    connection: Connection, wire: Wire
) -> None:
    first, second, third = Note(), Note(), Note()
    connection.send([first])
    wire.closing = True  # as uvloop's transport is, before it says that the connection is lost
    connection.send([second])
    connection.send([third])
    assert connection.unanswered() == [first, second, third]
    assert [note.copies for note in (first, second, third)] == [1, 0, 0]
    assert connection.lost.done()


async def test_silence_counts_from_the_last_progress(connection: Connection, wire: Wire) -> None:
    loop = asyncio.get_running_loop()
    assert connection.silent_since == float("inf")
    connection.send([Note()])
    connection.send([Note()])
    sent = connection.silent_since
    assert sent <= loop.time()
    await asyncio.sleep(0.002)
    connection.data_received(b"$-1\r\n$1\r\n1\r\n")
    assert sent < connection.silent_since <= loop.time()


async def test_the_end_of_the_connection_is_told_once(connection: Connection, wire: Wire) -> None:
    connection.eof_received()
    connection.connection_lost(cast("Exception", ConnectionResetError("reset")))
    assert connection.lost.result() == "closed by the server"
    assert connection.closed.done()
