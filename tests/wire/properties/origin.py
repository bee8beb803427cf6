"""An origin that answers byte by byte, as it is told; every request that reaches it is kept, also in part."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from tests.fuzz import oracle

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
FRAMINGS = ("length", "chunked", "close")


class Arrived(NamedTuple):
    """A request that came, whole."""

    key: bytes | None
    body: bytes


class Answer:
    """What is said to one request."""

    def __init__(self, number: int, key: bytes | None, framing: str) -> None:
        self.key = key
        self.framing = framing
        self.value: dict[str, Any] = {"number": number, "filled": "x" * 100}
        self.given = 0
        self.reset = False
        self.closed = False
        self.head, body = self._written(json.dumps(self.value).encode())
        self.wire = self.head + body

    @property
    def whole(self) -> bool:
        """All of it was given, up to its end."""
        return self.given == len(self.wire) and (self.framing != "close" or self.closed) and not self.reset

    def _written(self, body: bytes) -> tuple[bytes, bytes]:
        start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        match self.framing:
            case "length":
                return start + b"Content-Length: %d\r\n\r\n" % len(body), body
            case "chunked":
                chunks = b"%x\r\n%b\r\n7;x\r\n%b\r\n0\r\n\r\n" % (len(body) - 7, body[:-7], body[-7:])
                return start + b"Transfer-Encoding: chunked\r\n\r\n", chunks
            case _:
                return start + b"\r\n", body


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, origin: "ScriptedOrigin") -> None:
        self.answer: Answer | None = None
        self.transport: asyncio.Transport
        self._origin = origin
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent
        self._origin.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.answer is None:
            self._read()

    def connection_lost(self, _error: Exception | None) -> None:
        self._origin.open.discard(self)
        self._origin.cut_short(self._buffer)
        if self.answer is not None:
            self.answer.closed = True
            self.answer = None

    def give(self, length: int) -> None:
        """So many bytes more of the answer; at its end, on to the next request."""
        answer = self.answer
        if answer is None or self.transport.is_closing():
            return
        piece = answer.wire[answer.given : answer.given + length]
        self.transport.write(piece)
        answer.given += len(piece)
        if answer.given == len(answer.wire):
            self.answer = None
            if answer.framing == "close":
                answer.closed = True
                self.transport.close()
            else:
                self._read()

    def close(self) -> None:
        """Its end, in good order."""
        if self.answer is not None:
            self.answer.closed = True
        self.transport.close()

    def reset(self) -> None:
        """Its end, at once: what was given may be lost on the way."""
        if self.answer is not None:
            self.answer.reset = True
        sock: socket.socket = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _read(self) -> None:
        reading = oracle.read_request(self._buffer)
        assert not reading.refused, self._buffer
        if reading.whole:
            self._buffer = reading.rest
            self.answer = self._origin.arrived(reading)


class ScriptedOrigin:
    """Listens on a port of 127.0.0.1. *framings*: of the answers, in turn."""

    def __init__(self, framings: Iterator[str]) -> None:
        self.requests: list[Arrived] = []
        self.parts: list[bytes] = []
        """What was there of requests whose connection broke off."""
        self.answers: list[Answer] = []
        self.open: set[Peer] = set()
        self.port = 0
        self._framings = framings
        self._server: asyncio.Server

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop all."""
        self._server.close()
        for peer in list(self.open):
            peer.transport.abort()
        await asyncio.sleep(0)

    def arrived(self, reading: oracle.Reading) -> Answer:
        """A request is whole."""
        keys = [value for name, value in reading.fields if name.lower() == b"idempotency-key"]
        key = keys[0] if keys else None
        self.requests.append(Arrived(key, reading.body))
        self.answers.append(Answer(len(self.answers), key, next(self._framings)))
        return self.answers[-1]

    def cut_short(self, part: bytes) -> None:
        """A connection is over, with *part* of a request."""
        if part:
            self.parts.append(part)

    def waiting(self) -> list[Peer]:
        """Those whose request has no whole answer yet."""
        return [peer for peer in self.open if peer.answer is not None and not peer.transport.is_closing()]
