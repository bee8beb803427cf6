"""Records in a SQLite file: the embedded default. Written through to the disk before any answer; several processes on
one machine may share the file."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar, cast

from proxy.core.record import Record
from proxy.deadlines import NEVER, Deadlines
from proxy.store import decide
from proxy.store.base import ClaimResult, Granted, ReadResult, SettleResult, StoreUnavailable, Unavailable
from proxy.store.decide import Operation, Row
from proxy.store.writer import Schema, Writer

SCHEMA = Schema(
    application_id=0x49646D50,  # "IdmP"
    version=1,
    ddl=(
        # an ordinary table: rows of this size make a slow and sparse WITHOUT ROWID one (measured: half the rate)
        "CREATE TABLE record (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE INDEX record_expires ON record (expires)",
    ),
)
SWEEP = 4
"""Expired records that one write removes at most."""
SWEEP_SQL = """
DELETE FROM record WHERE hash IN (SELECT hash FROM record WHERE expires <= ? ORDER BY expires LIMIT ?)
"""
PUT_SQL = """
INSERT INTO record (hash, expires, data) VALUES (?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET expires = excluded.expires, data = excluded.data
"""
WITHDRAW_AGAIN = 1.0
"""Seconds until a withdrawal that failed is tried again."""

CLOSED = Unavailable("the store is closed")

R = TypeVar("R")
Callback = Callable[[R | Unavailable], None]
logger = logging.getLogger(__name__)


class SqliteStore:
    """Needs a running loop. *deadline*: seconds within which every operation is answered; *limit*: operations that may
    wait for the disk at a time. The clock of the records is the wall clock of the machine: they outlive restarts."""

    def __init__(self, path: Path, *, deadline: float, deadlines: Deadlines, limit: int = 4096) -> None:
        self._path = path.absolute()
        self._deadline = deadline
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(self._path, SCHEMA, busy=deadline, limit=limit)
        self._closed = True

    @property
    def place(self) -> str:
        """Which store this is, for people."""
        return f"sqlite://{self._path}"

    async def open(self) -> None:
        """See Store.open."""
        await self._writer.open()
        self._closed = False

    async def close(self) -> None:
        """See Store.close. Claims that come too late are withdrawn between the probe and the end."""
        if not self._closed:
            self._closed = True
            await self._probe()
        if not await self._writer.close(self._deadline):
            logger.warning("%s does not let go of its file: %s", self.place, self._writer.stage)

    async def ping(self) -> None:
        """See Store.ping."""
        result = CLOSED if self._closed else await self._probe()
        if isinstance(result, Unavailable):
            raise StoreUnavailable(f"{self.place}: {result.why}")

    async def findings(self) -> list[str]:
        """See Store.findings."""
        return [
            f"SQLite {sqlite3.sqlite_version}, write-ahead log, every commit synced to the disk",
            "the records are on this machine's disk alone; it must be a local disk, no network file system",
            "other programs may read the file while proxies run, not write to it or checkpoint it",
            "records expire by this machine's wall clock: a step forward frees keys early",
        ]

    def claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        """See Store.claim."""
        self._submit(decide.claim(record), done, partial(self._came_late, record))

    def settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.settle."""
        self._submit(decide.settle(record), done)

    def release(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.release."""
        self._submit(decide.release(record), done)

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        """See Store.read."""
        self._submit(decide.read(key_hash), done)

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

    async def _probe(self) -> ReadResult:
        """What reading a key gives that nobody can have."""
        future: asyncio.Future[ReadResult] = self._loop.create_future()

        def done(result: ReadResult) -> None:
            if not future.done():
                future.set_result(result)

        self._writer.submit(_Job(decide.read(b""), done, None, self._writer, self._deadlines, self._deadline))
        return await future


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
        """What comes after the answer matters only to *late*."""
        result = cast("R", self._result)
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


class SqliteRows:
    """The rows of one file, within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def now(self) -> int:
        """See Rows.now."""
        return time.time_ns() // 1_000_000

    def at(self, unix_ms: int) -> int:
        """See Rows.at."""
        return unix_ms

    def get(self, key_hash: bytes) -> Row | None:
        """See Rows.get."""
        row = self._execute("SELECT data, expires FROM record WHERE hash = ?", (key_hash,)).fetchone()
        return None if row is None else Row(*row)

    def put(self, key_hash: bytes, row: Row) -> None:
        """See Rows.put."""
        self._execute(SWEEP_SQL, (self.now(), SWEEP))
        self._execute(PUT_SQL, (key_hash, row.expires, row.data))

    def remove(self, key_hash: bytes) -> None:
        """See Rows.remove."""
        self._execute("DELETE FROM record WHERE hash = ?", (key_hash,))
