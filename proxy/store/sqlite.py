"""Records in a SQLite file: the embedded default. Written through to the disk before any answer; several processes on
one machine may share the file."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar, cast

from proxy.core.record import Attempt, Record
from proxy.deadlines import NEVER, Deadlines
from proxy.store import decide
from proxy.store.base import (
    ClaimResult,
    Granted,
    KeepResult,
    KeptResult,
    OverruleResult,
    ReadResult,
    SettleResult,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.marker import Marker, Watch, found_only
from proxy.store.sqlite_rows import SCHEMA, Operation, SqliteRows, note, noted
from proxy.store.writer import OPEN_TIMEOUT, Writer

WITHDRAW_AGAIN = 1.0
"""Seconds until a withdrawal that failed is tried again."""

MARKER = b"marker"
CLOSED = Unavailable("the store is closed")

R = TypeVar("R")
Callback = Callable[[R | Unavailable], None]
logger = logging.getLogger(__name__)


class SqliteStore:
    """Needs a running loop. *deadline*: seconds within which every operation is answered; *limit*: operations that may
    wait for the disk at a time; *fingerprint*, *refuse_forgotten*: see `marker.py`. The clock of the records is the
    wall clock of the machine: they outlive restarts."""

    def __init__(
        self,
        path: Path,
        *,
        deadline: float,
        deadlines: Deadlines,
        fingerprint: bytes = b"",
        refuse_forgotten: bool = True,
        limit: int = 4096,
    ) -> None:
        self._path = path.absolute()
        self._deadline = deadline
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(self._path, SCHEMA, busy=deadline, limit=limit)
        self._marker = Marker(fingerprint, refuse=refuse_forgotten)
        self._watch = Watch(self._look, deadlines, limit=deadline)
        self._closed = True

    @property
    def place(self) -> str:
        """Which store this is, for people."""
        return f"sqlite://{self._path}"

    async def open(self) -> None:
        """See Store.open."""
        await self._writer.open()
        self._closed = False
        try:
            self._marker.begin(MARKER, await self._ask(noted(MARKER, self._marker.new()), OPEN_TIMEOUT))
        except StoreRefused as refused:
            await self.close()
            raise StoreRefused(f"{self.place}: {refused}") from None
        except BaseException:
            await self.close()
            raise
        self._watch.open()

    async def close(self) -> None:
        """See Store.close. Claims that come too late are withdrawn between the probe and the end."""
        self._watch.close()
        if not self._closed:
            self._closed = True
            with suppress(StoreUnavailable):
                await self._ask(decide.read(b""), self._deadline)
        if not await self._writer.close(self._deadline):
            logger.warning("%s does not let go of its file: %s", self.place, self._writer.stage)

    async def ping(self) -> None:
        """See Store.ping."""
        why = CLOSED.why if self._closed else self._marker.forgotten
        if why is not None:
            raise StoreUnavailable(f"{self.place}: {why}")
        await self._ask(decide.read(b""), self._deadline)  # a key that nobody can have

    async def findings(self) -> list[str]:
        """See Store.findings."""
        return [
            f"SQLite {sqlite3.sqlite_version}, write-ahead log",
            "crash of a proxy or of the machine: protected, every write is synced to the disk before it is believed",
            "loss of the disk, or an old copy restored: NOT protected, the keys can be used a second time",
            "it must be a local disk, no network file system",
            "other programs may read the file while proxies run, not write to it or checkpoint it",
            "records expire by this machine's wall clock: a step forward frees keys early",
        ]

    def claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        """See Store.claim."""
        if self._marker.refusing is not None:
            self.read(record.attempt.key_hash, found_only(self._marker.refusing, done))
        else:
            self._submit(decide.claim(record), done, partial(self._came_late, record))

    def settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.settle."""
        self._submit(decide.settle(record), done)

    def release(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.release."""
        self._submit(decide.release(record), done)

    def overrule(self, attempt: Attempt, ruling: Record | None, done: Callable[[OverruleResult], None]) -> None:
        """See Store.overrule."""
        self._submit(decide.overrule(attempt, ruling), done)

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        """See Store.read."""
        self._submit(decide.read(key_hash), done)

    def keep(
        self, name: bytes, value: bytes, lifetime: int, done: Callable[[KeepResult], None], *, first: bool = False
    ) -> None:
        """See Store.keep."""
        self._submit(decide.keep(name, value, lifetime, first=first), done)

    def kept(self, name: bytes, done: Callable[[KeptResult], None]) -> None:
        """See Store.kept."""
        self._submit(decide.kept(name), done)

    def _look(self) -> None:
        self._submit(note(MARKER), self._seen)

    def _seen(self, there: bytes | Unavailable | None) -> None:
        if not isinstance(there, Unavailable):
            self._marker.seen(MARKER, there)

    def _submit(self, operate: Operation[R], done: Callback[R], late: Callback[R] | None = None) -> None:
        if self._closed:
            self._loop.call_soon(done, CLOSED)
        elif self._writer.full:
            self._loop.call_soon(done, Unavailable("too many operations wait for the disk"))
        else:
            self._writer.submit(_Job(operate, done, late, self._writer, self._deadlines, self._deadline))

    def _came_late(self, record: Record, result: ClaimResult) -> None:
        if isinstance(result, Granted):
            self._writer.submit(_Withdrawal(record, self._writer, self._deadlines))

    async def _ask(self, operate: Operation[R], limit: float) -> R:
        """The result, within *limit* seconds, also of a store that is closing; raise StoreUnavailable."""
        future: asyncio.Future[R | Unavailable] = self._loop.create_future()

        def done(result: R | Unavailable) -> None:
            if not future.done():
                future.set_result(result)

        self._writer.submit(_Job(operate, done, None, self._writer, self._deadlines, limit))
        result = await future
        if isinstance(result, Unavailable):
            raise StoreUnavailable(f"{self.place}: {result.why}")
        return result


class _Job(Generic[R]):
    """One operation on its way through the thread, answered within its deadline, whatever the disk does."""

    def __init__(
        self,
        operate: Operation[R],
        done: Callback[R],
        late: Callback[R] | None,
        writer: Writer,
        deadlines: Deadlines,
        deadline: float,
    ) -> None:
        self.answered = False
        self.deadline = deadlines.now() + deadline
        self._operate = operate
        self._done = done
        self._late = late
        self._writer = writer
        self._deadlines = deadlines
        self._result: R | None = None
        deadlines.add(self)

    def run(self, connection: sqlite3.Connection) -> None:
        """In the thread."""
        self._result = self._operate(SqliteRows(connection))

    def committed(self) -> None:
        """What comes after the deadline matters only to *late*, also where the process was stopped meanwhile and the
        answer is still to be given: a grant that is found then is not to be trusted."""
        result = cast("R", self._result)
        if not self.answered and self._late is not None and self._deadlines.now() >= self.deadline:
            self.overdue()
        if not self.answered:
            self._answer(result)
        elif self._late is not None:
            self._late(result)

    def failed(self, why: str) -> None:
        """Undone, or never begun."""
        if not self.answered:
            self._answer(Unavailable(why))

    def overdue(self) -> None:
        """The thread goes on with it if it has begun."""
        self._answer(Unavailable(f"not done within the deadline: {self._writer.stage}"))

    def _answer(self, result: R | Unavailable) -> None:
        self.answered = True
        self._deadlines.discard(self)
        self._done(result)


class _Withdrawal:
    """Removes a claim that was committed after its answer had been Unavailable. It stands behind the claim in the one
    queue, and does not give up: a ghost would block the client's retry for the whole retention."""

    answered = False
    deadline = NEVER

    def __init__(self, record: Record, writer: Writer, deadlines: Deadlines) -> None:
        self._release = decide.release(record)
        self._writer = writer
        self._deadlines = deadlines

    def run(self, connection: sqlite3.Connection) -> None:
        """In the thread."""
        self._release(SqliteRows(connection))

    def committed(self) -> None:
        """The key is free."""

    def failed(self, why: str) -> None:
        """Again, after a while."""
        logger.warning("a claim that came too late could not be withdrawn yet: %s", why)
        self.deadline = self._deadlines.now() + WITHDRAW_AGAIN
        self._deadlines.add(self)

    def overdue(self) -> None:
        """The while is over."""
        self._deadlines.discard(self)
        self._writer.submit(self)
