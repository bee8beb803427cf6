"""Clients of a store that go on and on while something happens to it, and remember what they were told."""

import asyncio
import time
from types import TracebackType
from typing import NamedTuple, Self

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.store.base import Absent, ClaimResult, Done, Found, Granted, SettleResult, Unavailable
from tests.support.stores import Asked, claim_of, completed


class Told(NamedTuple):
    """What one attempt was told, and how long the longer of its two operations took in seconds."""

    claim: Record
    claimed: ClaimResult
    settled: SettleResult | None
    took: float


class Load:
    """*hands* attempts at a time on *store*, each on a key of its own: claimed, and settled where it was granted."""

    def __init__(self, store: Asked, hands: int = 8) -> None:
        self.told: list[Told] = []
        self._store = store
        self._hands = hands
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._go_on()) for _ in range(self._hands)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)

    @property
    def granted(self) -> list[Told]:
        """Those that own their key."""
        return [each for each in self.told if isinstance(each.claimed, Granted)]

    @property
    def unavailable(self) -> list[Told]:
        """Those that do not know."""
        return [each for each in self.told if isinstance(each.claimed, Unavailable)]

    async def forgotten(self) -> list[Told]:
        """Those that were granted, or done, and are not there as they were left."""
        return [each for each in self.granted if not await self._is_kept(each)]

    async def blocked(self) -> list[Told]:
        """Those that were not granted, and have left a record."""
        return [
            each
            for each in self.unavailable
            if not isinstance(await self._store.read(each.claim.attempt.key_hash), Absent)
        ]

    async def _is_kept(self, told: Told) -> bool:
        found = await self._store.read(told.claim.attempt.key_hash)
        if isinstance(told.settled, Done):
            return found == Found(completed(told.claim), State.COMPLETED)
        return isinstance(found, Found) and found.record.attempt.token == told.claim.attempt.token

    async def _go_on(self) -> None:
        while not self._ending:
            await self._one()

    async def _one(self) -> None:
        claim, began = claim_of(), time.monotonic()
        claimed = await self._store.claim(claim)
        between = time.monotonic()
        settled = await self._store.settle(completed(claim)) if isinstance(claimed, Granted) else None
        self.told.append(Told(claim, claimed, settled, max(between - began, time.monotonic() - between)))
