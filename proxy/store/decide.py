"""The operations, once, for every store that is written in Python: what they do to the rows of a store that runs
one of them at a time. Which of them may do what is the table of `proxy.core.lifecycle`, and whose token it is."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from proxy.core.lifecycle import TRANSITIONS, Event, State
from proxy.core.record import Attempt, Record
from proxy.store.base import (
    Absent,
    ClaimResult,
    Done,
    Foreign,
    Found,
    Granted,
    KeepResult,
    Kept,
    KeptResult,
    OverruleResult,
    ReadResult,
    SettleResult,
    Unavailable,
)
from proxy.store.codec import Undecodable, decode, encode

SETTLING = {State.COMPLETED: Event.COMPLETE, State.UNKNOWN: Event.LOSE}
"""The event that a record to be settled stands for, by its state."""

R = TypeVar("R")


class Row(NamedTuple):
    """An encoded record, or what is kept beside; and the moment at which it expires (ms, by the clock of its store)."""

    data: bytes
    expires: int


NOTHING = Row(b"", 0)


class Full(Exception):
    """There is no room for one more record; the message says for how many there is."""


class Rows(Protocol):
    """Where rows lie, by key hash."""

    def now(self) -> int:
        """The clock by which rows expire, in ms."""

    def at(self, unix_ms: int) -> int:
        """A moment of the wall clock, by this clock."""

    def get(self, key_hash: bytes) -> Row | None:
        """What is there, expired or not."""

    def put(self, key_hash: bytes, row: Row) -> None:
        """Write it, over what is there; raise Full."""

    def remove(self, key_hash: bytes) -> None:
        """Remove it, where it is there."""

    def kept(self, name: bytes) -> Row | None:
        """What is kept beside the records under *name*, expired or not."""

    def keep(self, name: bytes, row: Row) -> None:
        """Keep it, over what is there; raise Full."""


Operation = Callable[[Rows], R]


def claim(record: Record) -> Operation[ClaimResult]:
    """See Store.claim. Own, but no longer in progress, is settled: found, for it is not to be sent again."""
    attempt, data = record.attempt, encode(record)

    def operate(rows: Rows) -> ClaimResult:
        row, there = _look(rows, attempt.key_hash)
        if there is None:
            rows.put(attempt.key_hash, Row(data, rows.now() + attempt.retention))
            return Granted()
        if there.attempt.token == attempt.token and there.state is State.IN_PROGRESS:
            return Granted()
        return _found(rows, row, there)

    return _guarded(operate)


def settle(record: Record) -> Operation[SettleResult]:
    """See Store.settle. What the table does not allow to the own token was overtaken by the same settle or by a better
    one: done. What would have expired by now is not written."""
    attempt, data, event = record.attempt, encode(record), SETTLING[record.state]

    def operate(rows: Rows) -> SettleResult:
        row, there = _look(rows, attempt.key_hash)
        if there is None:
            expires = rows.at(attempt.first_used + attempt.retention)
            if expires > rows.now():
                rows.put(attempt.key_hash, Row(data, expires))
        elif there.attempt.token != attempt.token:
            return Foreign(there)
        elif (there.state, event) in TRANSITIONS:
            rows.put(attempt.key_hash, Row(data, row.expires))
        return Done()

    return _guarded(operate)


def release(record: Record) -> Operation[SettleResult]:
    """See Store.release. What counts is the state in the record, not what it reads as."""
    attempt = record.attempt

    def operate(rows: Rows) -> SettleResult:
        _, there = _look(rows, attempt.key_hash)
        if there is None:
            return Done()
        if there.attempt.token != attempt.token or (there.state, Event.RELEASE) not in TRANSITIONS:
            return Foreign(there)
        rows.remove(attempt.key_hash)
        return Done()

    return _guarded(operate)


def overrule(attempt: Attempt, ruling: Record | None) -> Operation[OverruleResult]:
    """See Store.overrule. What counts is the state that the record reads as, and that its lease is over."""
    data = b"" if ruling is None else encode(ruling)
    event = Event.OPERATOR_RELEASE if ruling is None else Event.OPERATOR_COMPLETE

    def operate(rows: Rows) -> OverruleResult:
        row, there = _look(rows, attempt.key_hash)
        if there is None:
            return Absent()
        if ruling is not None and there.attempt.token == ruling.attempt.token:
            return Done()
        age = _age(rows, row, there)
        may = age >= there.attempt.lease and (there.reads_as(age), event) in TRANSITIONS
        if there.attempt.token != attempt.token or not may:
            return Foreign(there)
        if ruling is None:
            rows.remove(attempt.key_hash)
        else:
            rows.put(attempt.key_hash, Row(data, row.expires))
        return Done()

    return _guarded(operate)


def read(key_hash: bytes) -> Operation[ReadResult]:
    """See Store.read."""

    def operate(rows: Rows) -> ReadResult:
        row, there = _look(rows, key_hash)
        return Absent() if there is None else _found(rows, row, there)

    return _guarded(operate)


def keep(name: bytes, value: bytes, lifetime: int, *, first: bool) -> Operation[KeepResult]:
    """See Store.keep."""

    def operate(rows: Rows) -> KeepResult:
        there = rows.kept(name)
        if first and there is not None and there.expires > rows.now():
            return Kept(there.data)
        rows.keep(name, Row(value, max(rows.now() + lifetime, there.expires if there is not None else 0)))
        return Done()

    return _guarded(operate)


def kept(name: bytes) -> Operation[KeptResult]:
    """See Store.kept."""

    def operate(rows: Rows) -> KeptResult:
        there = rows.kept(name)
        return Absent() if there is None or there.expires <= rows.now() else Kept(there.data)

    return operate


def _look(rows: Rows, key_hash: bytes) -> tuple[Row, Record | None]:
    row = rows.get(key_hash)
    if row is None or row.expires <= rows.now():
        return NOTHING, None
    return row, decode(row.data, key_hash)


def _found(rows: Rows, row: Row, record: Record) -> Found:
    return Found(record, record.reads_as(_age(rows, row, record)))


def _age(rows: Rows, row: Row, record: Record) -> int:
    return rows.now() - (row.expires - record.attempt.retention)


def _guarded(operate: Operation[R]) -> Operation[R | Unavailable]:
    """A record that cannot be decoded is never absent; a store that is full is not available to new records."""

    def guarded(rows: Rows) -> R | Unavailable:
        try:
            return operate(rows)
        except Undecodable as error:
            return Unavailable(f"a record cannot be decoded: {error}")
        except Full as error:
            return Unavailable(f"full: {error}")

    return guarded
