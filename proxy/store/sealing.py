"""A store whose records are compressed or encrypted on their way in, and opened on their way out.

All others see plain records only. It is there also where neither is configured: what was written when they were can
still be read. A record that cannot be opened is Unavailable, never Absent: its key is taken, whoever can read it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from proxy.core.record import Attempt, Record
from proxy.deadlines import Deadlines
from proxy.store.base import (
    ClaimResult,
    Foreign,
    Found,
    OverruleResult,
    ReadResult,
    SettleResult,
    Store,
    Unavailable,
)
from proxy.store.compression import Compressor
from proxy.store.dictionary import Library, Result
from proxy.store.keyring import KeyRing, Unopenable
from proxy.store.learning import Learning
from proxy.store.vault import UnknownDictionary, Vault

_WITH_RECORD = (Found, Foreign)


class Sealing:
    """See proxy.store.base.Store. Needs a running loop. *beneath*: where the records lie; *deadline*: seconds, its own.
    *learns*: whether a dictionary is looked for and learnt; *upstream*, *lifetime*: see `learning.Learning`."""

    def __init__(
        self,
        beneath: Store,
        vault: Vault,
        *,
        deadline: float,
        deadlines: Deadlines,
        upstream: bytes,
        lifetime: int,
        learns: bool,
    ) -> None:
        self.beneath = beneath
        self.seal = vault.seal
        """A record as it is kept; for what else keeps records on a disk."""
        self._vault = vault
        self._deadline = deadline
        self._deadlines = deadlines
        self._now = deadlines.now
        self._library = Library(beneath, vault)
        self._learning = Learning(beneath, vault, self._library, upstream=upstream, lifetime=lifetime)
        self._learns = learns and vault.compress
        self.place = beneath.place
        self.ping = beneath.ping
        self.keep = beneath.keep
        self.kept = beneath.kept

    async def open(self) -> None:
        """See Store.open."""
        await self.beneath.open()
        if self._learns:
            await self._learning.begin()

    async def close(self) -> None:
        """See Store.close."""
        await self._learning.end()
        await self.beneath.close()
        await asyncio.sleep(0)  # who has waited for a dictionary is answered in the next turn

    async def findings(self) -> list[str]:
        """See Store.findings: how records are kept, and whether the dictionary in use can be read."""
        found, ring = await self.beneath.findings(), self._vault.ring
        if self._vault.compress:
            found += ["records are compressed", await self._learning.finding()]
        if ring is not None:
            found.append(
                f"records are encrypted with key {ring.first}; those of {', '.join(map(str, ring.ids))} are read"
            )
        return found

    def use(self, ring: KeyRing | None) -> None:
        """Another ring, from now on."""
        self._vault.ring = ring

    def claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        """See Store.claim."""
        due = self._now() + self._deadline  # as `_opening` does it: this is on the path of every payment
        self.beneath.claim(self.seal(record), partial(self._answered, done, due))

    def settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.settle."""
        due = self._now() + self._deadline
        self.beneath.settle(self.seal(record), partial(self._answered, done, due))

    def release(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.release."""
        self.beneath.release(record, self._opening(done))

    def overrule(self, attempt: Attempt, ruling: Record | None, done: Callable[[OverruleResult], None]) -> None:
        """See Store.overrule."""
        self.beneath.overrule(attempt, None if ruling is None else self.seal(ruling), self._opening(done))

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        """See Store.read."""
        self.beneath.read(key_hash, self._opening(done))

    async def opened(self, record: Record) -> Record | Unavailable:
        """A record that was found elsewhere, on a disk."""
        future: asyncio.Future[Foreign | Unavailable] = asyncio.get_running_loop().create_future()
        self._opening(future.set_result)(Foreign(record))
        result = await future
        return result.record if isinstance(result, Foreign) else result

    def _opening(self, done: Callable[[Any], None]) -> Callable[[object], None]:
        """What takes the place of *done*: it is told the same, opened, and all that within the deadline."""
        return partial(self._answered, done, self._now() + self._deadline)

    def _answered(self, done: Callable[[Any], None], due: float, result: object) -> None:
        if not isinstance(result, _WITH_RECORD) or not result.record.sealed:
            done(result)
            return
        try:
            record = self._vault.open(result.record)
        except Unopenable as error:
            done(_unopenable(error))
        except UnknownDictionary as missing:
            again = partial(self._found, done, result)
            self._library.find(missing.id, _Waiting(missing, due, self._deadlines, again).found)
        else:
            done(replace(result, record=record))

    def _found(self, done: Callable[[Any], None], result: Found | Foreign, why: str) -> None:
        """Its dictionary is there, or not: *why*."""
        try:
            done(_unopenable(why) if why else replace(result, record=self._vault.open(result.record)))
        except (Unopenable, UnknownDictionary) as error:
            done(_unopenable(error))


class _Waiting:
    """A record that waits for its dictionary, within the deadline of the operation that has found it."""

    def __init__(
        self, missing: UnknownDictionary, due: float, deadlines: Deadlines, done: Callable[[str], None]
    ) -> None:
        self.deadline = due
        self._missing = missing
        self._deadlines = deadlines
        self._done = done
        self._over = False
        deadlines.add(self)

    def found(self, result: Result) -> None:
        """It is there; or will not be."""
        match result:
            case Compressor():
                self._answer("")
            case Unavailable(why):
                self._answer(why)
            case _:
                self._answer(f"{self._missing}, {result}")

    def overdue(self) -> None:
        """Too late."""
        self._answer(f"{self._missing}, which was not there within the deadline")

    def _answer(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._deadlines.discard(self)
            self._done(why)


def _unopenable(why: object) -> Unavailable:
    return Unavailable(f"a record cannot be opened: {why}")
