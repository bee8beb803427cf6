"""The tables of the spool, and what is done to them within a transaction: in the thread that owns the file.

An entry is a settlement that its store has not taken yet; an incident, one that its store never will: somebody else
owns the key. Numbers are never given twice (AUTOINCREMENT), so that a late removal cannot hit another entry.
"""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.store.codec import HASH_OFFSET, Undecodable, decode, encode
from proxy.store.writer import Schema

SCHEMA = Schema(
    application_id=0x49646D53,  # "IdmS"
    version=1,
    ddl=(
        "CREATE TABLE entry (id INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT NOT NULL, key_hash BLOB NOT NULL,"
        " due INTEGER NOT NULL, expires INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE INDEX entry_key ON entry (store, key_hash, id)",
        "CREATE INDEX entry_expires ON entry (expires)",
        "CREATE TABLE incident (id INTEGER PRIMARY KEY, met INTEGER NOT NULL, expires INTEGER NOT NULL,"
        " data BLOB NOT NULL, owner BLOB NOT NULL)",
        "CREATE INDEX incident_expires ON incident (expires)",
        "CREATE TABLE tally (entries INTEGER NOT NULL, incidents INTEGER NOT NULL, bytes INTEGER NOT NULL)",
        "INSERT INTO tally VALUES (0, 0, 0)",
        # kept by triggers, so that it is right whoever writes; 128 bytes are for what a row costs beside its records
        "CREATE TRIGGER entry_in AFTER INSERT ON entry BEGIN UPDATE tally SET entries = entries + 1,"
        " bytes = bytes + 128 + length(new.data); END",
        "CREATE TRIGGER entry_out AFTER DELETE ON entry BEGIN UPDATE tally SET entries = entries - 1,"
        " bytes = bytes - 128 - length(old.data); END",
        "CREATE TRIGGER incident_in AFTER INSERT ON incident BEGIN UPDATE tally SET incidents = incidents + 1,"
        " bytes = bytes + 128 + length(new.data) + length(new.owner); END",
        "CREATE TRIGGER incident_out AFTER DELETE ON incident BEGIN UPDATE tally SET incidents = incidents - 1,"
        " bytes = bytes - 128 - length(old.data) - length(old.owner); END",
    ),
)
HORIZON = 2 * 3_600_000
"""Milliseconds. Nothing is put off for so long: what is due later than that was written before the clock went back."""
DUE = """
SELECT id, key_hash, data FROM entry AS own
WHERE +store = :store AND due NOT BETWEEN :now + 1 AND :now + :horizon AND NOT EXISTS (
  SELECT 1 FROM entry AS earlier
  WHERE earlier.store = own.store AND earlier.key_hash = own.key_hash AND earlier.id < own.id
)
ORDER BY id
"""
"""The order of a key's settlements is never changed: while one waits, whatever its reason, those behind it wait too.
The plus keeps SQLite from an index whose rows it would have to sort: by number it can stop at the end of a batch."""


class Tally(NamedTuple):
    """What lies in the file."""

    entries: int = 0
    incidents: int = 0
    bytes: int = 0


class Entry(NamedTuple):
    """A settlement that waits. A record whose state is absent stands for a release."""

    id: int
    record: Record


class Incident(NamedTuple):
    """A settlement that met the record of another attempt, *owner*. *met*: Unix time in ms."""

    id: int
    met: int
    record: Record
    owner: Record


class Unreadable(NamedTuple):
    """An incident that cannot be decoded. *met*: Unix time in ms; *why*: without a key or a secret."""

    id: int
    met: int
    why: str


class Batch(NamedTuple):
    """What is to be delivered now; and the numbers of what cannot be read."""

    entries: list[Entry]
    unreadable: list[int]


class Delivered(NamedTuple):
    """What became of a batch, by number."""

    over: list[int]
    """The store has it, or needs it no more."""
    again: list[int]
    """The store gave no answer to it."""
    incidents: list[tuple[int, Record]]
    """The store has another attempt's record."""


def tally(connection: sqlite3.Connection) -> Tally:
    """All that lies in the file, whichever store it is for."""
    return Tally(*connection.execute("SELECT entries, incidents, bytes FROM tally").fetchone())


def put(connection: sqlite3.Connection, store: str, record: Record, due: int) -> int:
    """Write it; return its number. *due*: Unix ms before which it is not delivered.

    It is kept for a retention longer than its record: whether that has expired, its store says by its own clock, and a
    clock that has run ahead here must not throw a response away.
    """
    attempt = record.attempt
    values = (store, attempt.key_hash, due, attempt.first_used + 2 * attempt.retention, _encoded(record))
    cursor = connection.execute(
        "INSERT INTO entry (store, key_hash, due, expires, data) VALUES (?, ?, ?, ?, ?)", values
    )
    if cursor.lastrowid is None:
        raise sqlite3.InternalError("an INSERT without a rowid")
    return cursor.lastrowid


def batch(connection: sqlite3.Connection, store: str, now: int, most: int, most_bytes: int) -> Batch:
    """The oldest entries for *store* that are due, one a key: at most so many, and none behind so many bytes."""
    found, size = Batch([], []), 0
    for number, key_hash, data in connection.execute(DUE, {"store": store, "now": now, "horizon": HORIZON}):
        try:
            found.entries.append(Entry(number, _decoded(data, key_hash)))
        except Undecodable:
            found.unreadable.append(number)
        size += len(data)
        if len(found.entries) + len(found.unreadable) >= most or size >= most_bytes:
            break
    return found


def postpone(connection: sqlite3.Connection, numbers: Iterable[int], due: int) -> None:
    """Not before *due* (Unix ms)."""
    connection.executemany("UPDATE entry SET due = ? WHERE id = ?", [(due, number) for number in numbers])


def remove(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """What is gone already may be among them."""
    connection.executemany("DELETE FROM entry WHERE id = ?", [(number,) for number in numbers])


def set_aside(connection: sqlite3.Connection, number: int, owner: Record, now: int) -> None:
    """An entry becomes an incident, and is kept for its retention again, counted from *now* (Unix ms)."""
    values = (number, now, now + owner.attempt.retention, encode(owner), number)
    connection.execute(
        "INSERT INTO incident (id, met, expires, owner, data) SELECT ?, ?, ?, ?, data FROM entry WHERE id = ?", values
    )
    remove(connection, [number])


def expire(connection: sqlite3.Connection, now: int, most: int) -> list[bytes]:
    """Remove what nobody needs any more, at most so much at a time; return the key hashes of the entries among it."""
    expired = connection.execute("SELECT id, key_hash FROM entry WHERE expires <= ? LIMIT ?", (now, most)).fetchall()
    remove(connection, [number for number, _ in expired])
    connection.execute(
        "DELETE FROM incident WHERE id IN (SELECT id FROM incident WHERE expires <= ? LIMIT ?)", (now, most)
    )
    return [key_hash for _, key_hash in expired]


def for_others(connection: sqlite3.Connection, store: str) -> list[tuple[str, int]]:
    """The stores other than *store* that entries wait for, and how many."""
    found = connection.execute("SELECT store, count(*) FROM entry WHERE store <> ? GROUP BY store", (store,))
    return [(other, int(count)) for other, count in found]


def incidents(connection: sqlite3.Connection) -> list[Incident | Unreadable]:
    """All of them, in the order of their numbers."""
    found: list[Incident | Unreadable] = []
    for number, met, data, owner in connection.execute("SELECT id, met, data, owner FROM incident ORDER BY id"):
        try:
            found.append(Incident(number, met, _decoded(data, _hash(data)), decode(owner, _hash(owner))))
        except Undecodable as error:
            found.append(Unreadable(number, met, str(error)))
    return found


def forget(connection: sqlite3.Connection, number: int) -> bool:
    """Remove an incident; False where there is none of that number."""
    return connection.execute("DELETE FROM incident WHERE id = ?", (number,)).rowcount == 1


def _hash(data: bytes) -> bytes:
    return data[HASH_OFFSET : HASH_OFFSET + 16]


def _encoded(record: Record) -> bytes:
    """An absent record cannot be written down; one in progress needs no settlement, and so stands for it here."""
    return encode(Record(record.attempt, State.IN_PROGRESS, None) if record.state is State.ABSENT else record)


def _decoded(data: bytes, key_hash: bytes) -> Record:
    record = decode(data, key_hash)
    return record._replace(state=State.ABSENT) if record.state is State.IN_PROGRESS else record
