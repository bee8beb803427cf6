"""A store that seals, asked by who compares what lies there with what was put there: it opens all that is found."""

from dataclasses import replace
from functools import partial
from typing import TypeVar

from proxy.core.record import Attempt, Record
from proxy.store.base import ClaimResult, Foreign, Found, OverruleResult, ReadResult, SettleResult, Unavailable
from proxy.store.sealing import Sealing
from tests.support.stores import Asked, answer

R = TypeVar("R")


class Opening(Asked):
    """What cannot be opened is Unavailable."""

    def __init__(self, store: Sealing) -> None:
        super().__init__(store)
        self.sealing = store

    async def claim(self, record: Record) -> ClaimResult:
        return await self._opened(await super().claim(record))

    async def settle(self, record: Record) -> SettleResult:
        return await self._opened(await super().settle(record))

    async def release(self, record: Record) -> SettleResult:
        return await self._opened(await super().release(record))

    async def overrule(self, attempt: Attempt, ruling: Record | None) -> OverruleResult:
        return await self._opened(await super().overrule(attempt, ruling))

    async def read(self, key_hash: bytes) -> ReadResult:
        return await self._opened(await super().read(key_hash))

    async def _opened(self, result: R) -> R | Unavailable:
        if not isinstance(result, Found | Foreign):
            return result
        record = await answer(partial(self.sealing.opened, result.record))
        return record if isinstance(record, Unavailable) else replace(result, record=record)
