"""Settlements that a store has not taken yet, on the disk: they survive the process, and wait there for their delivery.

A SQLite file of its own, which several processes may share. What is put here is synced before anybody is told. It is
delivered by one process at a time: the kernel drops the `flock` that says so with the process that has it, and another
takes over. Each entry says which store it is for: proxies with several stores may share the file, too.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Generic, TypeVar, cast

from proxy.core.record import Record
from proxy.store import entries
from proxy.store.base import StoreUnavailable, Unavailable
from proxy.store.entries import Batch, Delivered, Incident, Tally, Unreadable
from proxy.store.writer import Writer

BATCH = 64
"""Entries that are delivered at a time, at most."""
BATCH_BYTES = 8 * 1024 * 1024
"""A batch takes no more entries once it has so many bytes."""
AGAIN_AFTER = 2_000
"""Milliseconds until an entry comes up again to which its store gave no answer, so that others have their turn."""
UNREADABLE_AFTER = 3_600_000
"""Milliseconds until an entry is looked at again that cannot be read: another release may have written it."""
SWEEP = 256
"""Expired entries that are removed at a time, at most."""
CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for the disk."""

R = TypeVar("R")
logger = logging.getLogger(__name__)


class Spool:
    """Needs a running loop. *store*: the name of the one that this process delivers to. *max_size*: bytes; what is
    under way is taken beyond it. *encrypt*: what is done to a record before it lies on the disk. *busy*: seconds to
    wait for a program that holds the file but is none of ours."""

    def __init__(
        self,
        path: Path,
        store: str,
        *,
        max_size: int,
        encrypt: Callable[[Record], Record] | None = None,
        busy: float = 1.0,
        limit: int = 4096,
    ) -> None:
        self._path = path.absolute()
        self._store = store
        self._max_size = max_size
        self._encrypt = encrypt
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(self._path, entries.SCHEMA, busy=busy, limit=limit)
        self._closed = True
        self._turn: int | None = None
        self.delivers = False
        """Whether this process is the one that delivers to its store."""
        self.tally = Tally()
        """As the last job has seen it."""
        self.full = False
        """No new claim should be made: its settlement might have no place here."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self._path)

    async def open(self) -> None:
        """Open the file or make it; raise StoreUnavailable or StoreRefused."""
        try:
            await self._writer.open()
            name = f"{self._path.name}-delivery-{blake2b(self._store.encode(), digest_size=4).hexdigest()}"
            self._turn = os.open(self._path.with_name(name), os.O_RDWR | os.O_CREAT, 0o600)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"spool: {error}") from None
        except OSError as error:
            raise StoreUnavailable(f"spool: {self._path}: {error.strerror}") from None
        self._closed = False
        others = await self._ask(partial(entries.for_others, store=self._store))
        for store, count in [] if isinstance(others, Unavailable) else others:
            logger.warning(
                "%s: %d settlements wait for another store, %s; this one is %s", self.place, count, store, self._store
            )

    async def close(self) -> None:
        """Do what is under way, and let go of the file and of the delivery."""
        self._closed = True
        if not await self._writer.close(CLOSE_TIMEOUT):
            logger.warning("%s: the disk hangs: %s", self.place, self._writer.stage)
        self.delivers = False
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None

    # -- settlements come in ------------------------------------------------------------------------------------

    def put(self, record: Record, delay: float, done: Callable[[int | Unavailable], None]) -> None:
        """Keep a settlement: *record*, or its release where its state is absent. *done* is told its number once it is
        on the disk, never from within. *delay*: seconds in which it is not delivered: its store may still take it."""
        try:
            sealed = record if self._encrypt is None else self._encrypt(record)
        except Exception as error:  # no memory for it just now, say
            logger.warning("a settlement cannot be encrypted", exc_info=True)
            self._loop.call_soon(done, Unavailable(f"it cannot be encrypted: {type(error).__name__}"))
            return
        due = _now() + int(delay * 1000)
        self._submit(partial(entries.put, store=self._store, record=sealed, due=due), done)

    def remove(self, number: int) -> None:
        """The store has it. Where that fails the entry is delivered once more, which changes nothing."""
        self._submit(partial(entries.remove, numbers=[number]), _nobody_waits)

    # -- and are delivered --------------------------------------------------------------------------------------

    def take_turn(self) -> bool:
        """Become the one process that delivers, unless another is; stay it until `close`, or the process's end."""
        if not self.delivers and self._turn is not None:
            with suppress(BlockingIOError):
                fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.delivers = True
        return self.delivers

    async def look(self) -> Tally | Unavailable:
        """See what there is, other processes' entries included."""
        return await self._ask(entries.tally)

    async def expire(self) -> list[bytes] | Unavailable:
        """Remove what has outlived its record by another retention; the key hashes of the settlements among it."""
        return await self._ask(partial(entries.expire, now=_now(), most=SWEEP))

    async def batch(self, most: int = BATCH) -> Batch | Unavailable:
        """What is to be delivered now, at most so many. What cannot be read is put off."""
        now = _now()

        def operate(connection: sqlite3.Connection) -> Batch:
            found = entries.batch(connection, self._store, now, most, BATCH_BYTES)
            entries.postpone(connection, found.unreadable, now + UNREADABLE_AFTER)
            return found

        return await self._ask(operate)

    async def delivered(self, results: Delivered) -> Unavailable | None:
        """Write down what became of a batch."""
        now = _now()

        def operate(connection: sqlite3.Connection) -> None:
            entries.remove(connection, results.over)
            entries.postpone(connection, results.again, now + AGAIN_AFTER)
            for number, owner in results.incidents:
                entries.set_aside(connection, number, owner, now)

        return await self._ask(operate)

    # -- or are for an operator ---------------------------------------------------------------------------------

    async def incidents(self) -> Sequence[Incident | Unreadable]:
        """All of them; raise StoreUnavailable."""
        return self._usable(await self._ask(entries.incidents))

    async def forget(self, number: int) -> bool:
        """Remove an incident; False where there is none of that number; raise StoreUnavailable."""
        return self._usable(await self._ask(partial(entries.forget, number=number)))

    def _usable(self, result: R | Unavailable) -> R:
        if isinstance(result, Unavailable):
            raise StoreUnavailable(f"spool: {self._path}: {result.why}")
        return result

    # -- through the thread -------------------------------------------------------------------------------------

    async def _ask(self, operate: Callable[[sqlite3.Connection], R]) -> R | Unavailable:
        future: asyncio.Future[R | Unavailable] = self._loop.create_future()

        def done(result: R | Unavailable) -> None:
            if not future.done():  # who asked may have been cancelled
                future.set_result(result)

        self._submit(operate, done)
        return await future

    def _submit(self, operate: Callable[[sqlite3.Connection], R], done: Callable[[R | Unavailable], None]) -> None:
        if self._closed:
            self._loop.call_soon(done, Unavailable("the spool is closed"))
        elif self._writer.full:
            self._loop.call_soon(done, Unavailable("too much waits for the disk"))
        else:
            self._writer.submit(_Job(operate, done, self._counted))

    def _counted(self, tally: Tally) -> None:
        self.tally = tally
        self.full = tally.bytes >= self._max_size


class _Job(Generic[R]):
    """One operation on its way through the thread, and what there was after it."""

    answered = False  # it is done in any case: who gives up on it has its answer, and the entry is of use all the same

    def __init__(
        self,
        operate: Callable[[sqlite3.Connection], R],
        done: Callable[[R | Unavailable], None],
        counted: Callable[[Tally], None],
    ) -> None:
        self._operate = operate
        self._done = done
        self._counted = counted
        self._result: R | None = None
        self._tally = Tally()

    def run(self, connection: sqlite3.Connection) -> None:
        """In the thread."""
        self._result = self._operate(connection)
        self._tally = entries.tally(connection)

    def committed(self) -> None:
        """On the disk."""
        self._counted(self._tally)
        self._done(cast("R", self._result))

    def failed(self, why: str) -> None:
        """Undone."""
        self._done(Unavailable(why))


def _nobody_waits(_result: object) -> None:
    """The answer to what is done on the quiet."""


def _now() -> int:
    return time.time_ns() // 1_000_000
