"""One thread that owns a SQLite file, and commits all jobs of a moment together.

A commit costs an fsync, so what waits while one is under way shares the next. Several processes may share the file.
Their batches, the checkpoints within them, opening and closing are serialised by `flock` on a file beside it, because
* SQLite's own waiting for its lock is a poll that backs off to 100 ms, and a busy process starves the others;
* SQLite before 3.51.3 can lose commits where one connection checkpoints while another commits
  (sqlite.org/wal.html#walresetbug), and most machines have an older one.
The kernel drops the lock with the process: `kill -9` leaves nothing behind.
"""

import asyncio
import fcntl
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, assert_never

from proxy.store.base import StoreRefused, StoreUnavailable

BATCH = 256
"""Jobs in one transaction at most."""
OPEN_TIMEOUT = 30.0
"""Seconds for opening the file: after a crash, SQLite reads the whole write-ahead log first."""
JOURNAL_LIMIT = 64 * 1024 * 1024
"""Bytes to which the write-ahead log is cut back after a burst."""

logger = logging.getLogger(__name__)


class Schema(NamedTuple):
    """What makes a file one of ours. *ddl*: statements that make its tables. *migrations*: by the version of an older
    file, those that make the next one of it; processes of that release that have it open must be able to go on."""

    application_id: int
    version: int
    ddl: Sequence[str]
    migrations: Mapping[int, Sequence[str]] = MappingProxyType({})


class Job(Protocol):
    """Something to be done within a transaction. `run` is called in the thread, all else on the loop."""

    answered: bool
    """Nobody waits for it any more: it is not begun. Set on the loop, at any time."""

    def run(self, connection: sqlite3.Connection) -> None:
        """Do it, and keep the result; an exception undoes the whole batch."""

    def committed(self) -> None:
        """It is on the disk."""

    def failed(self, why: str) -> None:
        """Nothing of it was done."""


class Writer:
    """Belongs to the running loop. *busy*: seconds to wait for a program that holds the file but is none of ours."""

    def __init__(self, path: Path, schema: Schema, *, busy: float, limit: int) -> None:
        self._path = path
        self._schema = schema
        self._busy = busy
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._ending = False
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, name=f"sqlite {path.name}", daemon=True)
        self.stage = "waiting for its turn"
        """What the thread is at, for people."""

    @property
    def full(self) -> bool:
        """As many jobs wait as may wait."""
        return self._waiting >= self._limit

    async def open(self) -> None:
        """Start the thread, which opens the file or makes it; raise StoreUnavailable or StoreRefused."""
        if not self._path.parent.is_dir():
            raise StoreUnavailable(f"{self._path}: the directory is not there: make it, or name another one")
        self._thread.start()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await asyncio.shield(self._opened)
        except TimeoutError:
            raise StoreUnavailable(f"{self._path}: not open after {OPEN_TIMEOUT:.0f} s, {self.stage}") from None
        finally:
            if not self._opened.done():
                self._queue.put(None)

    def submit(self, job: Job) -> None:
        """Queue *job*; one of its `committed` and `failed` will be called."""
        self._waiting += 1
        self._queue.put(job)

    async def close(self, timeout: float) -> bool:
        """Do what is queued, then close the file and end the thread. False where that took longer than *timeout*
        seconds: the thread is stuck in the disk, and is left to itself."""
        if self._thread.ident is None:  # never started
            return True
        self._queue.put(None)
        await asyncio.wait([self._ended], timeout=timeout)
        return self._ended.done()

    def _work(self) -> None:
        try:
            with _lock_file(self._path) as lock:
                with self._alone(lock):
                    connection = open_database(self._path, self._schema, self._busy)
                    identity = _identity(self._path)
                self._call(_resolve, self._opened, None)
                with closing(connection):
                    while self._batch(connection, lock, identity):
                        pass
                    fcntl.flock(lock, fcntl.LOCK_EX)  # the last one to close the file checkpoints it
        except (StoreUnavailable, StoreRefused) as error:
            self._call(_resolve, self._opened, error)
        except (OSError, sqlite3.Error) as error:
            self._call(_resolve, self._opened, StoreUnavailable(f"{self._path}: {plain(error)}"))
        finally:
            self._call(_resolve, self._ended, None)

    @contextmanager
    def _alone(self, lock: int) -> Iterator[None]:
        self.stage = "waiting for another process that holds the file"
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.stage = "waiting for the disk"
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            self.stage = "waiting for its turn"

    def _batch(self, connection: sqlite3.Connection, lock: int, identity: tuple[int, int] | None) -> bool:
        """Wait for jobs and do them; False once it is time to end."""
        first = self._queue.get()
        if first is None:
            return False
        jobs = [first]
        done: list[Job] = []
        why = "nobody waited for it any more"
        try:
            with self._alone(lock):
                _check_identity(self._path, identity)
                with transaction(connection):
                    self._gather(jobs)
                    for job in jobs:
                        if not job.answered:
                            job.run(connection)
                            done.append(job)
        except (sqlite3.Error, OSError, StoreUnavailable) as error:
            done, why = [], plain(error)
        except Exception:  # everybody gets an answer, whoever's defect it is
            logger.exception("a job of the SQLite thread failed")
            done, why = [], "a defect of the proxy, see the log"
        undone = jobs if not done else [job for job in jobs if job not in set(done)]
        self._call(self._deliver, done, undone, why)
        return not self._ending

    def _gather(self, jobs: list[Job]) -> None:
        """Add to *jobs* what waits behind them."""
        with suppress(queue.Empty):
            while len(jobs) < BATCH:
                job = self._queue.get_nowait()
                if job is None:
                    self._ending = True
                    return
                jobs.append(job)

    def _call(self, what: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(what, *arguments)

    def _deliver(self, done: list[Job], undone: list[Job], why: str) -> None:
        self._waiting -= len(done) + len(undone)
        for tell in [job.committed for job in done] + [partial(job.failed, why) for job in undone]:
            try:
                tell()
            except Exception:  # one listener's defect must not keep the others from their answers
                logger.exception("a store's callback failed")


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def open_database(path: Path, schema: Schema, busy: float) -> sqlite3.Connection:
    """Open the file at *path* (made, with mode 0600, where it is not there); nothing else may open it meanwhile. Raise
    StoreUnavailable or StoreRefused."""
    with suppress(FileExistsError):  # an existing file keeps the mode that it was given
        path.touch(mode=0o600, exist_ok=False)
    connection = sqlite3.connect(path, timeout=busy, isolation_level=None)
    try:
        _fit_schema(connection, path, schema)
        _write_ahead(connection, path)
        with transaction(connection):  # a file that cannot be written shows itself here
            connection.execute(f"PRAGMA user_version={schema.version}")
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StoreRefused(f"{path}: no write-ahead log can be kept here: put the file on a local disk")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=FAST")  # ON would write zeros over all that expires, 1 MiB a record
    connection.execute(f"PRAGMA journal_size_limit={JOURNAL_LIMIT}")


def _fit_schema(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise StoreRefused(f"{path}: not a SQLite file: name another one") from None
        raise
    if (application_id, version, tables) == (0, 0, 0):
        with transaction(connection):
            for statement in schema.ddl:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={schema.application_id}")
            connection.execute(f"PRAGMA user_version={schema.version}")
    elif application_id != schema.application_id:
        raise StoreRefused(f"{path}: a SQLite file of another program: name another one")
    elif set(range(version, schema.version)) - set(schema.migrations) or version > schema.version:
        raise StoreRefused(f"{path}: made by another release (schema {version}, this release has {schema.version})")
    elif version < schema.version:
        with transaction(connection):
            for step in range(version, schema.version):
                for statement in schema.migrations[step]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={schema.version}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite undid it already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    lock = os.open(path.with_name(path.name + "-lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None


def _check_identity(path: Path, identity: tuple[int, int] | None) -> None:
    if _identity(path) != identity:
        raise StoreUnavailable(f"{path} was moved or removed: what is written now would be lost at the next start")


def plain(error: sqlite3.Error | OSError | StoreUnavailable) -> str:
    """What went wrong, in a few words and without the values that it went wrong with."""
    match error:
        case sqlite3.Error():
            return f"SQLite says: {error}"
        case OSError():
            return error.strerror or type(error).__name__
        case StoreUnavailable():
            return str(error)
        case _:
            assert_never(error)
