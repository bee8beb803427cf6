"""A command that notes what becomes of it, and a transport that keeps what is written."""

import asyncio
from collections.abc import Callable

from proxy.store.redis.connection import Command, Reply, pack


class Note(Command):
    """Notes what becomes of it."""

    def __init__(self, act: Callable[[Reply], None] = lambda reply: None, *, key: bytes = b"k") -> None:
        super().__init__(pack((b"GET", key)), due=float("inf"))
        self.replies: list[Reply] = []
        self.failures: list[str] = []
        self._act = act

    def replied(self, reply: Reply) -> None:
        self._act(reply)
        self.replies.append(reply)

    def failed(self, why: str) -> None:
        self.failures.append(why)


class LastingNote(Note):
    """Of a write that must last."""

    lasts = True

    def __init__(self, *, key: bytes = b"k") -> None:
        super().__init__(key=key)
        self.forgotten: list[tuple[Reply, str]] = []

    def forgettable(self, reply: Reply, why: str) -> None:
        self.forgotten.append((reply, why))


class Wire(asyncio.Transport):
    """What is written, and whether it was aborted."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        if not self.closing:
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)
        self.closing = True
