"""One connection for all: the commands of one tick leave in one write, and outlive the connection they left on.

A command waits until it is due. A connection that breaks, or stays silent for half the deadline, is given up; what it
did not answer is repeated on the next one, in its order and ahead of what came later. All commands are safe to repeat.
Before anything is repeated the old connection is known to be dead at the server (`handshake.connect`), so that no copy
of a command is applied behind a later one.

What the server turns away unapplied (it loads its data, the key moves to another node) is sent again after a pause, or
through the router that knows where to.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic
from typing import Protocol

from hiredis import ReplyError

from proxy.deadlines import Deadlines
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.redis.connection import Command, Connection, Identity, Question, Reply, Words, pack
from proxy.store.redis.errors import explain
from proxy.store.redis.handshake import Ready

MAX_COMMANDS = 20_000
"""Waiting and under way; one more is answered "overloaded" at once. Half of them may be withdrawals."""
MAX_BYTES = 64 * 1024 * 1024
BATCH_COMMANDS = 128
BATCH_BYTES = 256 * 1024
"""Of one batch: its replies are held until it is complete, and a stalled server must not look like a long batch."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts to connect: doubled with each that led to nothing, and spread by a random half."""
REST = 0.1
"""Seconds until a command that was turned away is sent again, less a random part up to a half."""
SILENT = "the server is silent"
HELD_UP = "the writes before it wait for replicas or the disk"

Connect = Callable[[Identity | None], Awaitable[Ready]]
_log = logging.getLogger(__name__)


class Router(Protocol):
    """Knows to which of several servers a command goes."""

    def redirect(self, node: "Multiplexer", command: Command, error: ReplyError) -> bool:
        """Send *command*, which *node* turned away, to the right one; False: it is for *node*, a little later."""

    def insist(self, command: Command) -> None:
        """See Multiplexer.insist."""


class Multiplexer:
    """Use it on one loop: open, send as much as you like, close. *router*: where there is more than one server."""

    def __init__(
        self, connect: Connect, *, deadline: float, deadlines: Deadlines, router: Router | None = None
    ) -> None:
        self.deadline = 0.0
        """Always passed: `overdue` looks through all commands at each tick, which costs less than a heap would."""
        self._connect = connect
        self._limit = deadline
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._queue: list[Command] = []
        self._queued_bytes = 0
        self._resting: list[Command] = []
        self._resting_bytes = 0
        self._router: Router = router or self
        self._flushing = False
        self._connection: Connection | None = None
        self._owner: asyncio.Task[None] | None = None
        self._refusing: str | None = "the store is not open"
        self._trouble = SILENT
        self._failures = 0
        self._warned = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None

    def open(self, connection: Connection | None) -> None:
        """Begin with *connection*, which is ready; None: make one."""
        if connection is not None:
            self._take(connection)
        self._owner = asyncio.create_task(self._keep_connected(connection))
        self._deadlines.add(self)
        self._refusing = None

    def abandon(self) -> list[Command]:
        """Give the server up: return what it has not answered, in its order, and take nothing more; then `close`. What
        it may still apply of that is for the router to think of."""
        left = list(self._outstanding())
        self._refusing = "the server was given up"
        if self._owner is not None:
            self._owner.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop(self._refusing)
        self._resting, self._resting_bytes = [], 0
        self._requeue([])
        return left

    async def close(self) -> None:
        """Answer what is under way, within the deadline; let the rest have failed."""
        if self._owner is None:
            return
        self._refusing = "the store is closing"
        due = monotonic() + self._limit
        try:
            while any(self._outstanding()) and monotonic() < due:
                await self.ask((b"PING",), due)  # stands behind all that waits
                await asyncio.sleep(REST if self._resting else 0)
        except ConnectionError:
            pass  # it was silent up to the deadline
        finally:
            await self._let_go()

    def send(self, command: Command) -> None:
        """Send it with all others of this tick. Whatever happens, it is answered by the tick after it is due."""
        connection = self._connection
        count, size = len(self._queue) + len(self._resting), self._queued_bytes + self._resting_bytes
        if connection is not None:
            count += connection.commands_in_flight
            size += connection.bytes_in_flight
        if self._refusing is not None:
            self._loop.call_soon(command.fail, self._refusing)
        elif count >= MAX_COMMANDS or size >= MAX_BYTES:
            self._loop.call_soon(command.fail, "overloaded")
        else:
            self.insist(command)

    def insist(self, command: Command) -> None:
        """Send it though there is no room, or though the store is closing: what follows from an earlier command."""
        if self._owner is None:
            self._loop.call_soon(command.fail, "the store is closed")
            return
        self._queue.append(command)
        self._queued_bytes += len(command.packed)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def ask(self, words: Words, due: float) -> Reply:
        """Send one command and await its reply; raise ConnectionError where there is none by *due* (monotonic)."""
        question = Question(pack(words), due)
        self.insist(question)
        return await question.reply

    def redirect(self, node: "Multiplexer", command: Command, error: ReplyError) -> bool:  # noqa: ARG002
        """See Router: there is no other server. One that is part of a cluster will not do."""
        if str(error).startswith(("MOVED", "ASK")):
            command.fail(explain(error))
            return True
        return False

    def overdue(self) -> None:
        """Let commands that are due have failed; give up a connection that is silent for half the deadline."""
        now = monotonic()
        late = [command for command in self._outstanding() if command.due <= now]
        if late:
            held_up = self._connection is not None and self._connection.waiting
            why = f"no answer within the deadline: {HELD_UP if held_up else self._trouble}"
            for command in late:
                command.fail(why)
            self._requeue([command for command in self._queue if not command.answered])
        connection = self._connection
        if connection is not None and now - connection.silent_since > self._limit / 2:
            connection.drop(SILENT)

    def _outstanding(self) -> Iterator[Command]:
        if self._connection is not None:
            yield from self._connection.unanswered()
        yield from [command for command in self._queue + self._resting if not command.answered]

    def _requeue(self, commands: list[Command]) -> None:
        self._queue = commands
        self._queued_bytes = sum(len(command.packed) for command in commands)

    def _flush(self) -> None:
        self._flushing = False
        connection = self._connection
        if connection is None or connection.lost.done() or connection.waiting:
            return
        queue, size, self._queue, self._queued_bytes = self._queue, self._queued_bytes, [], 0
        if not queue:
            return
        if size < BATCH_BYTES and len(queue) <= BATCH_COMMANDS:
            connection.send(queue)
            return
        batches = _batches(queue)
        for batch in batches:
            connection.send(batch)
            if connection.waiting:
                self._requeue([command for later in batches for command in later])
                return

    def _take(self, connection: Connection) -> None:
        self._connection = connection
        connection.relieved = self._flush
        connection.turned_away = self._turned_away

    def _turned_away(self, command: Command, error: ReplyError) -> None:
        command.copies -= 1  # this one was not applied
        if command.answered:
            return
        if not command.key:  # it asks this very server, and this is the answer
            command.answered = True
            command.replied(error)
        elif not self._router.redirect(self, command, error):
            self._rest(command, explain(error))

    def _rest(self, command: Command, why: str) -> None:
        self._trouble = why
        if not self._resting:
            self._loop.call_later(REST * random.uniform(0.5, 1), self._wake)  # noqa: S311  it spreads the proxies
        self._resting.append(command)
        self._resting_bytes += len(command.packed)

    def _wake(self) -> None:
        rested, self._resting, self._resting_bytes = self._resting, [], 0
        for command in rested:
            if not command.answered:
                self._router.insist(command)

    async def _keep_connected(self, connection: Connection | None) -> None:
        while True:
            if connection is not None:
                await self._until_lost(connection)
            connection = await self._reconnect(connection)
            self.overdue()  # what is late by now is not repeated, even if the clock's tick is late as well
            self._trouble = SILENT
            self._take(connection)
            self._flush()

    async def _until_lost(self, connection: Connection) -> None:
        before = connection.answered
        await asyncio.wait({connection.lost})  # which, unlike await, leaves it alone when we are cancelled
        self._trouble = connection.lost.result()
        self._connection = None
        self._requeue(connection.unanswered() + self._queue)
        self._failures = 0 if connection.answered > before else self._failures
        _log.warning("the connection to the store was lost: %s", self._trouble)

    async def _reconnect(self, old: Connection | None) -> Connection:
        owes = old is not None and old.owes
        previous = old.identity if old is not None and owes else None
        while True:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  nothing to guess: it spreads the proxies
            self._failures = min(self._failures + 1, 10)
            try:
                ready = await self._connect(previous)
            except (StoreUnavailable, StoreRefused) as error:
                if self._trouble != str(error):
                    _log.warning("cannot connect to the store: %s", error)
                self._trouble = str(error)
                continue
            except Exception:  # a defect, which must not leave the store without anyone who connects it
                _log.exception("connecting to the store failed")
                continue
            _log.info("connected to the store again")
            if owes and (previous is None or not ready.alone):
                self._warn_of_ghosts()
            return ready.connection

    def _warn_of_ghosts(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "the store does not let us run CLIENT INFO and CLIENT KILL:"
                " a claim that a stalled server applies late may block its key"
            )

    async def _let_go(self) -> None:
        owner, self._owner = self._owner, None
        self._deadlines.discard(self)
        if owner is not None:
            owner.cancel()
            await asyncio.gather(owner, return_exceptions=True)
        for command in list(self._outstanding()):
            command.fail("the store is closed")
        self._requeue([])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop("closed by us")
            await asyncio.wait({connection.closed}, timeout=self._limit)


def _batches(commands: list[Command]) -> Iterator[list[Command]]:
    batch: list[Command] = []
    size = 0
    for command in commands:
        batch.append(command)
        size += len(command.packed)
        if size >= BATCH_BYTES or len(batch) >= BATCH_COMMANDS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
