"""What lies in a SQLite file: the records, and beside them notes, which do not expire, and what is kept, which does."""

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from proxy.store.decide import Row
from proxy.store.writer import Schema

NOTES = "CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL)"
KEPT = "CREATE TABLE kept (name BLOB PRIMARY KEY, expires INTEGER NOT NULL, value BLOB NOT NULL)"
SCHEMA = Schema(
    application_id=0x49646D50,  # "IdmP"
    version=3,
    ddl=(
        # an ordinary table: rows of this size make a slow and sparse WITHOUT ROWID one (measured: half the rate)
        "CREATE TABLE record (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE INDEX record_expires ON record (expires)",
        NOTES,
        KEPT,
    ),
    migrations={1: (NOTES,), 2: (KEPT,)},
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

R = TypeVar("R")
Operation = Callable[["SqliteRows"], R]
"""Something that is done to them."""


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

    def kept(self, name: bytes) -> Row | None:
        """See Rows.kept."""
        row = self._execute("SELECT value, expires FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else Row(*row)

    def keep(self, name: bytes, row: Row) -> None:
        """See Rows.keep."""
        self._execute("DELETE FROM kept WHERE expires <= ?", (self.now(),))
        self._execute(
            "INSERT OR REPLACE INTO kept (name, expires, value) VALUES (?, ?, ?)", (name, row.expires, row.data)
        )

    def note(self, name: bytes) -> bytes | None:
        """What is noted under *name*."""
        row = self._execute("SELECT value FROM note WHERE name = ?", (name.decode(),)).fetchone()
        return None if row is None else bytes(row[0])

    def note_once(self, name: bytes, value: bytes) -> None:
        """Note it, where nothing is noted."""
        self._execute(
            "INSERT INTO note (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name.decode(), value)
        )


def note(name: bytes) -> Operation[bytes | None]:
    """What is noted under *name*."""
    return lambda rows: rows.note(name)


def noted(name: bytes, value: bytes) -> Operation[bytes]:
    """Note *value* where nothing is noted; what is there then."""

    def operate(rows: SqliteRows) -> bytes:
        rows.note_once(name, value)
        return rows.note(name) or b""

    return operate
