"""Records in this process's memory: for tests and for trials, one worker only. They end with the process."""

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import TypeVar

from proxy.core.record import Attempt, Record
from proxy.store import decide
from proxy.store.base import (
    ClaimResult,
    KeepResult,
    KeptResult,
    OverruleResult,
    ReadResult,
    SettleResult,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.decide import Full, Operation, Row

SWEEP = 4
"""Expired records that one write removes at most."""
MOST_KEPT = 1000
"""Things beside the records."""

R = TypeVar("R")


class MemoryStore:
    """Needs a running loop. *capacity*: records; one more is answered Unavailable."""

    def __init__(self, *, capacity: int = 100_000) -> None:
        self._loop = asyncio.get_running_loop()
        self._rows = MemoryRows(capacity)
        self._closed = False

    @property
    def place(self) -> str:
        """Which store this is, for people."""
        return "memory://"

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Let the answers under way be heard, then refuse whatever comes."""
        self._closed = True
        await asyncio.sleep(0)

    async def ping(self) -> None:
        """Raise StoreUnavailable once it is closed."""
        if self._closed:
            raise StoreUnavailable(f"{self.place} is closed")

    async def findings(self) -> list[str]:
        """What an operator should know."""
        return [
            "crash or restart of the proxy: NOT protected, every key is as if never used, and can be used a second time"
        ]

    def claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        """See Store.claim."""
        self._answer(decide.claim(record), done)

    def settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.settle."""
        self._answer(decide.settle(record), done)

    def release(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.release."""
        self._answer(decide.release(record), done)

    def overrule(self, attempt: Attempt, ruling: Record | None, done: Callable[[OverruleResult], None]) -> None:
        """See Store.overrule."""
        self._answer(decide.overrule(attempt, ruling), done)

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        """See Store.read."""
        self._answer(decide.read(key_hash), done)

    def keep(
        self, name: bytes, value: bytes, lifetime: int, done: Callable[[KeepResult], None], *, first: bool = False
    ) -> None:
        """See Store.keep."""
        self._answer(decide.keep(name, value, lifetime, first=first), done)

    def kept(self, name: bytes, done: Callable[[KeptResult], None]) -> None:
        """See Store.kept."""
        self._answer(decide.kept(name), done)

    def _answer(self, operation: Operation[R], done: Callable[[R | Unavailable], None]) -> None:
        self._loop.call_soon(done, Unavailable("the store is closed") if self._closed else operation(self._rows))


class MemoryRows:
    """The clock is the monotonic one: a step of the wall clock neither frees a key nor bends a label."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: dict[bytes, Row] = {}
        self._by_expiry: list[tuple[int, bytes]] = []
        self._kept: dict[bytes, Row] = {}

    def now(self) -> int:
        """See Rows.now."""
        return time.monotonic_ns() // 1_000_000

    def at(self, unix_ms: int) -> int:
        """See Rows.at."""
        return self.now() + unix_ms - time.time_ns() // 1_000_000

    def get(self, key_hash: bytes) -> Row | None:
        """See Rows.get."""
        return self._rows.get(key_hash)

    def put(self, key_hash: bytes, row: Row) -> None:
        """See Rows.put."""
        self._sweep()
        there = self._rows.get(key_hash)
        if there is None and len(self._rows) >= self._capacity:
            raise Full(f"{self._capacity} records")
        self._rows[key_hash] = row
        if there is None or there.expires != row.expires:
            heapq.heappush(self._by_expiry, (row.expires, key_hash))

    def remove(self, key_hash: bytes) -> None:
        """See Rows.remove."""
        self._rows.pop(key_hash, None)

    def kept(self, name: bytes) -> Row | None:
        """See Rows.kept."""
        return self._kept.get(name)

    def keep(self, name: bytes, row: Row) -> None:
        """See Rows.keep."""
        self._kept = {known: there for known, there in self._kept.items() if there.expires > self.now()}
        if len(self._kept) >= MOST_KEPT:
            raise Full(f"{MOST_KEPT} things beside the records")
        self._kept[name] = row

    def _sweep(self) -> None:
        if len(self._by_expiry) > 2 * self._capacity:  # rows that were removed leave their lines behind
            self._by_expiry = [(row.expires, key_hash) for key_hash, row in self._rows.items()]
            heapq.heapify(self._by_expiry)
        for _ in range(SWEEP):
            if not self._by_expiry or self._by_expiry[0][0] > self.now():
                return
            expires, key_hash = heapq.heappop(self._by_expiry)
            there = self._rows.get(key_hash)
            if there is not None and there.expires == expires:
                del self._rows[key_hash]
