"""Writes of one turn leave together, in order, and each transport has its own trouble."""

import asyncio

import pytest

from proxy.http1.outbox import LARGE, Outbox


class Wire(asyncio.Transport):
    """A transport that writes down what it is given, and with whom it shares *log*."""

    def __init__(self, name: str, log: list[tuple[str, bytes]], *, breaks: bool = False) -> None:
        super().__init__()
        self._name = name
        self._log = log
        self._breaks = breaks
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._breaks:
            raise RuntimeError("unable to perform operation on a closed transport")
        self._log.append((self._name, bytes(data)))

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self._closing = True


@pytest.fixture
def log() -> list[tuple[str, bytes]]:
    """What was written, to all."""
    return []


async def test_what_is_given_in_a_turn_leaves_at_its_end_in_order(log: list[tuple[str, bytes]]) -> None:
    outbox, one, two = Outbox(), Wire("one", log), Wire("two", log)
    outbox.write(one, b"1")
    outbox.write(two, b"2")
    outbox.write(one, b"3")
    assert log == []
    await asyncio.sleep(0)
    assert log == [("one", b"1"), ("two", b"2"), ("one", b"3")]
    outbox.write(two, b"4")
    await asyncio.sleep(0)
    assert log[3:] == [("two", b"4")]


async def test_a_flush_is_at_once_and_nothing_leaves_twice(log: list[tuple[str, bytes]]) -> None:
    outbox, one = Outbox(), Wire("one", log)
    outbox.write(one, b"1")
    outbox.flush()
    assert log == [("one", b"1")]
    outbox.write(one, b"2")
    await asyncio.sleep(0)
    assert log == [("one", b"1"), ("one", b"2")]


async def test_a_transport_that_raises_costs_no_other_its_bytes(
    log: list[tuple[str, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    outbox, one, broken, two = Outbox(), Wire("one", log), Wire("broken", log, breaks=True), Wire("two", log)
    for wire in (one, broken, two, broken, one):
        outbox.write(wire, b"x")
    outbox.flush()
    assert log == [("one", b"x"), ("two", b"x"), ("one", b"x")]
    assert broken.is_closing()
    assert caplog.messages == ["a write failed"]  # once: then it is closed


async def test_a_closed_transport_is_not_written_to(log: list[tuple[str, bytes]]) -> None:
    outbox, one, two = Outbox(), Wire("one", log, breaks=True), Wire("two", log)
    outbox.write(one, b"1")
    outbox.write(two, b"2")
    one.abort()
    outbox.flush()
    assert log == [("two", b"2")]


async def test_whose_bytes_were_not_written_is_told_so(log: list[tuple[str, bytes]]) -> None:
    outbox, one, two = Outbox(), Wire("one", log), Wire("two", log)
    told: list[str] = []
    outbox.write(one, b"1", lambda: told.append("one"))
    outbox.write(two, b"2", lambda: told.append("two"))
    one.abort()
    outbox.flush()
    assert told == ["one"]


async def test_a_turn_is_over_when_what_waits_has_left(log: list[tuple[str, bytes]]) -> None:
    outbox, one = Outbox(), Wire("one", log)
    turn = outbox.turn
    outbox.write(one, b"1")
    assert outbox.turn == turn
    outbox.flush()
    assert outbox.turn != turn
    turn = outbox.turn
    outbox.write(one, b"x" * (LARGE + 1))
    assert outbox.turn != turn, "what is large does not wait"
