"""A connection without a kernel, and a clock that is moved by hand: a run of the fuzzer takes microseconds, and the
same bytes always do the same."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.deadlines import Deadlines, Waiting

_SOCKETS = socket.socketpair()
"""For who asks a transport for its socket: nothing ever comes on it."""
HIGH_WATER = 64
"""Bytes that a peer who does not read leaves unwritten before its writer is told."""


class MemoryTransport(asyncio.Transport):
    """Calls its protocol as asyncio's and uvloop's do. A write to a closed one is an error, as uvloop has it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"socket": _SOCKETS[0]})
        self.written = b""
        self.delivered: list[bytes] = []
        """All that the protocol was given."""
        self.cut_short = False
        """It was not closed in good order: the last answer may be incomplete."""
        self.lost = False
        self.heard_all = False
        """The protocol knows that the peer has said its last word."""
        self._protocol = protocol
        self._incoming: list[bytes | None] = []
        """None: the end."""
        self._reading = True
        self._closing = False
        self._stalled = False
        self._backlog = 0
        self._writer_paused = False
        protocol.connection_made(self)

    # -- the peer -----------------------------------------------------------------------------------------------

    def comes(self, data: bytes | None) -> None:
        """The peer sends *data*; None: its last word is said."""
        self._incoming.append(data)

    @property
    def unread(self) -> bool:
        """The protocol does not read what has come."""
        return bool(self._incoming)

    @property
    def stalled(self) -> bool:
        """The peer does not read."""
        return self._stalled

    def stall(self) -> None:
        """The peer reads no more."""
        self._stalled = True

    def drain(self) -> None:
        """The peer has read all."""
        self._stalled, self._backlog = False, 0
        if self._writer_paused:
            self._writer_paused = False
            self._protocol.resume_writing()
        if self._closing:
            self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is no more."""
        if not self.lost:
            self._closing = self.lost = True
            self._protocol.connection_lost(error)

    async def deliver(self) -> None:
        """Hand over what has come, a piece a turn, as far as the protocol reads."""
        while self._incoming and self._reading and not self._closing:
            piece = self._incoming.pop(0)
            if piece is None:
                self.heard_all = True
                if not self._protocol.eof_received():
                    self.close()
            elif piece:
                self.delivered.append(piece)
                self._protocol.data_received(piece)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    # -- asyncio.Transport --------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing, "a write to a closed transport"
        self.written += data
        if self._stalled:
            self._backlog += len(data)
            if self._backlog > HIGH_WATER and not self._writer_paused:
                self._writer_paused = True
                self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._backlog

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Of no interest."""

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._backlog:
                asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        self.cut_short = True
        self._closing = True
        asyncio.get_running_loop().call_soon(self.lose, None)


class Clock(Deadlines):
    """Time passes when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0
        self._waiting: set[Waiting] = set()
        self.now = lambda: self.time
        self.add = self._waiting.add
        self.discard = self._waiting.discard

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def advance(self, seconds: float) -> None:
        """That much later. As in `Deadlines`, but for the errors, which are not caught."""
        self.time += seconds
        for item in [item for item in self._waiting if item.deadline <= self.time]:
            if item in self._waiting:
                item.overdue()


class _Collector(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(logging.Formatter().format(record))


@contextmanager
def no_errors_logged() -> Iterator[None]:
    """Whatever is logged as an error within is one: raise AssertionError."""
    found: list[str] = []
    handler = _Collector(found)
    loggers = [logging.getLogger(name) for name in ("proxy", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert not found, "\n".join(found)
