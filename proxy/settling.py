"""A settlement that the store did not take at once: repeated until it is there, behind the client's back."""

from collections.abc import Callable
from enum import Enum
from typing import assert_never

from proxy.core.record import Record
from proxy.deadlines import NEVER
from proxy.parts import Parts
from proxy.store.base import Done, Foreign, SettleResult, Unavailable

RETRY_FIRST, RETRY_MOST = 0.2, 5.0
"""Seconds between two tries, doubled each time."""


class Operation(Enum):
    """What is done to the key."""

    SETTLE = "settle"
    RELEASE = "release"


def submit(parts: Parts, operation: Operation, record: Record, done: Callable[[SettleResult], None]) -> None:
    """Ask the store, once."""
    (parts.store.settle if operation is Operation.SETTLE else parts.store.release)(record, done)


class Settling:
    """Begins with a first try that failed. *there* is called when the store has the record, or never will."""

    __slots__ = ("_operation", "_parts", "_pause", "_record", "_there", "deadline")

    def __init__(self, parts: Parts, operation: Operation, record: Record, there: Callable[[], None]) -> None:
        self._parts = parts
        self._operation = operation
        self._record = record
        self._there = there
        self._pause = RETRY_FIRST
        self.deadline = NEVER
        parts.unsettled.add(self)
        parts.deadlines.add(self)
        self._again_later()

    def _again_later(self) -> None:
        self.deadline = self._parts.deadlines.now() + self._pause
        self._pause = min(self._pause * 2, RETRY_MOST)

    def overdue(self) -> None:
        """Time for the next try, unless whatever would be recorded would be gone by now."""
        self.deadline = NEVER
        if self._record.attempt.expires <= self._parts.wall():
            self._over()
        else:
            submit(self._parts, self._operation, self._record, self._answered)

    def _answered(self, result: SettleResult) -> None:
        journal, attempt = self._parts.journal, self._record.attempt
        match result:
            case Done():
                self._over()
            case Foreign(record):
                journal.incident(attempt, record.attempt)
                self._over()
            case Unavailable(why):
                journal.store_failure(self._operation.value, why, attempt.key_hash)
                self._again_later()
            case _:
                assert_never(result)

    def _over(self) -> None:
        self._parts.deadlines.discard(self)
        self._parts.unsettled.discard(self)
        self._there()
