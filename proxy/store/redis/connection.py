"""One connection: batches of commands go out, each closed with an ECHO of its number; their replies come in, in order.

A grant is a nil reply, and nil carries no name: were replies ever one off, a proxy would own someone else's key. So the
replies of a batch are collected, and none is used before the batch's own number has come back right behind them.

Where writes must last (`durability.py`), a batch with writes in it ends with a WAIT before its ECHO, one for all. The
server holds up this connection meanwhile, so nothing more is sent on it: with a replica that is away, what comes fails
in the queue, where nothing of it was sent, and no heap of waits grows in a socket.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, ClassVar, NamedTuple, cast

import hiredis

from proxy.deadlines import NEVER
from proxy.store.redis.errors import explain, turns_away

Reply = bytes | int | list[Any] | hiredis.ReplyError | None
"""What hiredis makes of RESP2. An error is a reply like any other."""

Words = tuple[bytes | str, ...]
pack: Callable[[Words], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows one word only
"""A command as bytes."""

_MORE = object()
_log = logging.getLogger(__name__)


class Unusable(Exception):
    """A reply after which its connection is of no use; the message says why. The command is repeated on the next."""


class Command(ABC):
    """What is sent, and what becomes of it. Exactly one of *replied* and *failed* is called, once."""

    __slots__ = ("answered", "copies", "due", "key", "packed")

    lasts: ClassVar[bool] = False
    """Whether it writes what must not be forgotten."""

    def __init__(self, packed: bytes, due: float, key: bytes = b"") -> None:
        self.packed = packed
        self.due = due
        """Monotonic time until which it is repeated and waited for."""
        self.key = key
        """By which a cluster finds its node. Empty: it is for the node that it was sent to."""
        self.copies = 0
        """How often it was written to a socket."""
        self.answered = False

    @abstractmethod
    def replied(self, reply: Reply) -> None:
        """Take the reply; raise Unusable."""

    def forgettable(self, reply: Reply, why: str) -> None:  # noqa: ARG002  # for those that last
        """Take the reply of a command that lasts: the server did it, and may yet forget it. Raise Unusable."""
        self.replied(reply)

    @abstractmethod
    def failed(self, why: str) -> None:
        """There was none in time. Copies that were written may still be applied."""

    def fail(self, why: str) -> None:
        """Let it have failed, unless it has its answer already; whatever its owner makes of that stays here."""
        if self.answered:
            return
        self.answered = True
        try:
            self.failed(why)
        except Exception:  # one owner's defect must not harm the others
            _log.exception("the handler of a failed command raised")


class Question(Command):
    """A command whose reply is awaited: for what is rare."""

    __slots__ = ("reply",)

    def __init__(self, packed: bytes, due: float, key: bytes = b"") -> None:
        super().__init__(packed, due, key)
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def replied(self, reply: Reply) -> None:
        """Hand the reply to who awaits it."""
        if not self.reply.done():
            self.reply.set_result(reply)

    def failed(self, why: str) -> None:
        """Raise ConnectionError where it is awaited."""
        if not self.reply.done():
            self.reply.set_exception(ConnectionError(why))


def _take_it(command: Command, error: hiredis.ReplyError) -> None:
    command.answered = True
    command.replied(error)


class Identity(NamedTuple):
    """A connection as its server knows it. Both, since a restarted server counts its ids anew."""

    id: bytes
    address: bytes


class Wait(NamedTuple):
    """What ends a batch with writes that must last."""

    packed: bytes
    lacking: Callable[[Reply], str | None]
    """What is missing, by the reply; None where all is well. Raises Unusable."""


_TurnedAway = tuple[Command, hiredis.ReplyError]


class _Batch(NamedTuple):
    number: bytes
    commands: Sequence[Command]
    wait: Wait | None
    size: int
    sent: float

    @property
    def replies(self) -> int:
        return len(self.commands) + 1 + (self.wait is not None)


class Connection(asyncio.Protocol):
    """Once lost it stays lost; what was not answered is kept for who repeats it."""

    def __init__(self, wait: Wait | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Why nothing more is sent or believed."""
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.identity: Identity | None = None
        self.turned_away = _take_it
        """Sees to each command that the server did not carry out and will elsewhere or later (`errors.turns_away`)."""
        self.answered = 0
        """Batches whose replies were used."""
        self.commands_in_flight = self.bytes_in_flight = 0
        self.waiting = False
        """A batch waits; another must not be sent before `relieved` was called."""
        self.relieved: Callable[[], None] = lambda: None
        self._wait = wait
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._batches: deque[_Batch] = deque()
        self._replies: list[Reply] = []
        self._expected = 0
        self._number = 0
        self._progress = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.drop(str(exc) if exc else "closed by the server")
        if not self.closed.done():
            self.closed.set_result(None)

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        self.drop("closed by the server")

    def drop(self, why: str) -> None:
        """Give the connection up. Where the server never let us in, what it said then is the better reason."""
        if self.lost.done():
            return
        errors = [reply for reply in self._replies if isinstance(reply, hiredis.ReplyError)]
        self.lost.set_result(explain(errors[0]) if errors and not self.answered else why)
        if self._transport is not None:
            self._transport.abort()

    def send(self, commands: Sequence[Command]) -> None:
        """Write *commands* as one batch. On a lost connection they are only kept, as unanswered."""
        self._number += 1
        number = b"%d" % self._number
        wait = self._wait
        if wait is not None and not any(command.lasts for command in commands):
            wait = None
        packed = [command.packed for command in commands]
        if wait is not None:
            packed.append(wait.packed)
            self.waiting = True
        packed.append(pack((b"ECHO", number)))
        data = b"".join(packed)
        batch = _Batch(number, commands, wait, len(data), monotonic())
        if not self._batches:
            self._expected = batch.replies
        self._batches.append(batch)
        self.commands_in_flight += len(commands)
        self.bytes_in_flight += len(data)
        if self._transport is None or self._transport.is_closing():  # uvloop raises on a write then
            self.drop("closed")
            return
        for command in commands:
            command.copies += 1
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.lost.done():
            return
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _MORE:
                replies.append(reply)
                if len(replies) >= self._expected:
                    self._close_batch()
                    if self.lost.done():
                        return
                    replies = self._replies
        except hiredis.ProtocolError:
            self.drop("the server does not speak the Redis protocol")

    def unanswered(self) -> list[Command]:
        """In the order in which they were sent."""
        return [command for batch in self._batches for command in batch.commands if not command.answered]

    @property
    def owes(self) -> bool:
        """Whether something was sent that may not have been applied yet, waited for or not."""
        return bool(self._batches)

    @property
    def silent_since(self) -> float:
        """Monotonic time since when the oldest batch waits without anything else being answered; NEVER: none waits."""
        return max(self._batches[0].sent, self._progress) if self._batches else NEVER

    def _close_batch(self) -> None:
        if not self._batches or self._replies[-1] != self._batches[0].number:
            self.drop("the replies are out of step with the commands")
            return
        batch, replies = self._batches[0], self._replies
        self._replies = []
        try:
            lacking = None if batch.wait is None else batch.wait.lacking(replies[-2])
        except Unusable as unusable:
            self.drop(str(unusable))
            return
        turned_away = self._hand_out(batch, replies, lacking)
        if turned_away is None:
            return
        self._batches.popleft()
        self._expected = self._batches[0].replies if self._batches else 0
        self._progress = monotonic()
        self.answered += 1
        self.commands_in_flight -= len(batch.commands)
        self.bytes_in_flight -= batch.size
        if batch.wait is not None:
            self.waiting = False
            self.relieved()
        for command, error in turned_away:
            self.turned_away(command, error)

    def _hand_out(self, batch: _Batch, replies: list[Reply], lacking: str | None) -> list[_TurnedAway] | None:
        """Give each command its reply; return those that were turned away, None where a reply ends the connection."""
        turned_away: list[_TurnedAway] = []
        for command, reply in zip(batch.commands, replies):  # behind them are the wait's and the echo
            if command.answered:
                continue
            if isinstance(reply, hiredis.ReplyError) and turns_away(reply):
                turned_away.append((command, reply))
                continue
            command.answered = True
            try:
                if lacking is not None and command.lasts:
                    command.forgettable(reply, lacking)
                else:
                    command.replied(reply)
            except Unusable as unusable:
                command.answered = False
                self.drop(str(unusable))
                return None
            except Exception:  # one owner's defect must not harm the connection of all
                _log.exception("the handler of a reply raised")
        return turned_away
