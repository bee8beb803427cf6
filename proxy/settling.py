"""The way of a settlement into the store: repeated until it is there.

The response is recorded first, then given. But a client does not wait for a slow store for ever: after `settle_wait`
it is told, and the settlement goes on behind its back.
"""

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


class Settling:
    """One settlement. *told* is called once: when the store has it, or when that takes longer than `settle_wait`."""

    __slots__ = ("_began", "_operation", "_parts", "_pause", "_record", "_retry_at", "_tell_by", "_told", "deadline")

    def __init__(self, parts: Parts, operation: Operation, record: Record, told: Callable[[], None]) -> None:
        self._parts = parts
        self._operation = operation
        self._record = record
        self._told: Callable[[], None] | None = told
        self._pause = RETRY_FIRST
        self._retry_at = NEVER
        self._began = parts.deadlines.now()
        self._tell_by = self.deadline = self._began + parts.terms.settle_wait
        parts.unsettled.add(self)
        parts.deadlines.add(self)
        self._submit()

    def _submit(self) -> None:
        store = self._parts.store
        submit = store.settle if self._operation is Operation.SETTLE else store.release
        submit(self._record, self._answered)

    def _answered(self, result: SettleResult) -> None:
        parts, attempt = self._parts, self._record.attempt
        match result:
            case Done():
                parts.journal.store(self._operation.value, parts.deadlines.now() - self._began)
                self._over()
            case Foreign(record):
                parts.journal.incident(attempt, record.attempt)
                self._over()
            case Unavailable(why):
                parts.journal.store_failure(self._operation.value, why, attempt.key_hash)
                self._retry_at = parts.deadlines.now() + self._pause
                self._pause = min(self._pause * 2, RETRY_MOST)
                self.deadline = min(self._tell_by, self._retry_at)
            case _:
                assert_never(result)

    def overdue(self) -> None:
        """Time to tell who waits, or to try again."""
        now = self._parts.deadlines.now()
        if self._tell_by <= now:
            self._parts.journal.late(self._record.attempt)
            self._tell()
        if self._record.attempt.expires <= self._parts.wall():
            self._over()  # whatever was recorded would be gone by now
        elif self._retry_at <= now:
            self._retry_at = NEVER
            self._submit()
        self.deadline = min(self._tell_by, self._retry_at)

    def _over(self) -> None:
        self._parts.deadlines.discard(self)
        self._parts.unsettled.discard(self)
        self._tell()

    def _tell(self) -> None:
        told, self._told, self._tell_by = self._told, None, NEVER
        if told is not None:
            told()
