"""A store whose records are compressed or encrypted on their way in, and stay so on their way out. Whose they are,
their state and their times lie in clear; the content is opened where it is shown, and nowhere else. So who may not see
it costs nothing, and is told the same whether it could be opened or not.

It is there also where neither is configured: what was written when they were can still be opened. A record that cannot
be is never absent: its key is taken, whoever can read it.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from proxy.core.record import Attempt, Record
from proxy.deadlines import Deadlines
from proxy.store.base import (
    ClaimResult,
    KeepResult,
    Kept,
    OverruleResult,
    SettleResult,
    Store,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.compression import Compressor
from proxy.store.dictionary import Library, Result
from proxy.store.keyring import KeyRing, Unopenable
from proxy.store.learning import Learning
from proxy.store.vault import UnknownDictionary, Vault

FOREVER = 10 * 365 * 86_400_000
"""Milliseconds: an id stands for one key, whether its records are long gone or not."""
Opened = Callable[[Record | Unavailable], None]
logger = logging.getLogger(__name__)


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
        self.encrypt = vault.encrypt
        """A record as it is kept beside the store, on a disk."""
        self.beneath = beneath
        self._vault = vault
        self._deadline = deadline
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._library = Library(beneath, vault)
        self._learning = Learning(beneath, vault, self._library, upstream=upstream, lifetime=lifetime)
        self._learns = learns and vault.compress
        self._is_open = False
        self.place = beneath.place
        self.ping = beneath.ping
        self.release = beneath.release
        self.read = beneath.read
        self.keep = beneath.keep
        self.kept = beneath.kept
        # on the path of every payment: where there is nothing to do, nothing is done
        self.claim = beneath.claim if vault.ring is None else self._claim
        plain = vault.ring is None and not vault.compress
        self.settle = beneath.settle if plain else self._settle
        self.overrule = beneath.overrule if plain else self._overrule

    async def open(self) -> None:
        """See Store.open; and refuse one whose records are encrypted with other keys of the same ids."""
        await self.beneath.open()
        self._is_open = True
        try:
            await self._recognise(self._vault.ring)
        except BaseException:
            await self.beneath.close()
            raise
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

    async def use(self, ring: KeyRing) -> None:
        """Another ring in the place of the one that there is, from now on; raise StoreRefused, StoreUnavailable."""
        if self._is_open:  # else it is looked at when it opens: a signal may come at any time
            await self._recognise(ring)
        self._vault.ring = ring

    async def _recognise(self, ring: KeyRing | None) -> None:
        """Each id must stand for the key that it stands for with who came first: else neither reads the other's."""
        for number, mark in () if ring is None else ring.marks().items():
            said: asyncio.Future[KeepResult] = self._loop.create_future()
            done = partial(_tell, said)
            self.beneath.keep(b"key:%d" % number, mark, FOREVER, done, first=True)
            match await said:
                case Unavailable(why):
                    raise StoreUnavailable(f"{self.place}: {why}")
                case Kept(value) if value != mark:
                    raise StoreRefused(
                        f"{self.place}: there are proxies on it whose encryption key {number} is another than this"
                        " one's: neither could read what the other writes. Give this one their ring; a new key gets a"
                        " new id"
                    )

    def _claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        sealed = self._sealed(record, done)
        if sealed is not None:
            self.beneath.claim(sealed, done)

    def _settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        sealed = self._sealed(record, done)
        if sealed is not None:
            self.beneath.settle(sealed, done)

    def _overrule(self, attempt: Attempt, ruling: Record | None, done: Callable[[OverruleResult], None]) -> None:
        sealed = None if ruling is None else self._sealed(ruling, done)
        if sealed is not None or ruling is None:
            self.beneath.overrule(attempt, sealed, done)

    def _sealed(self, record: Record, done: Callable[[Unavailable], None]) -> Record | None:
        """None: it cannot be, and *done* will be told. There may be no memory for it just now."""
        try:
            return self._vault.seal(record)
        except Exception as error:
            logger.warning("a record cannot be sealed", exc_info=True)
            self._loop.call_soon(done, Unavailable(f"a record cannot be sealed: {type(error).__name__}"))
            return None

    # -- content ------------------------------------------------------------------------------------------------

    def opened(self, record: Record, done: Opened) -> None:
        """Tell *done* the record with its content, or why that cannot be had: at once, from within, unless a dictionary
        is needed that is not known; then within the store's deadline."""
        missing = self._try(record, done)
        if missing is not None:
            again = partial(self._found, record, done)
            due = self._deadlines.now() + self._deadline
            self._library.find(missing.id, _Waiting(missing, due, self._deadlines, again).found)

    def _try(self, record: Record, done: Opened) -> UnknownDictionary | None:
        """What is missing to it; then nothing is told yet."""
        result: Record | Unavailable
        try:
            result = self._vault.open(record)
        except UnknownDictionary as missing:
            return missing
        except Unopenable as error:
            result = _unopenable(error)
        except Exception as error:  # no memory for it, say
            logger.warning("a record cannot be opened", exc_info=True)
            result = _unopenable(type(error).__name__)
        done(result)
        return None

    def _found(self, record: Record, done: Opened, why: str) -> None:
        """Its dictionary is there, or not: *why*."""
        missing = why or self._try(record, done)
        if missing:
            done(_unopenable(missing))


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


def _tell(said: asyncio.Future[KeepResult], result: KeepResult) -> None:
    if not said.done():  # who asked may have been cancelled
        said.set_result(result)


def _unopenable(why: object) -> Unavailable:
    return Unavailable(f"a record cannot be opened: {why}")
