"""What lies in the spool, on its way to the store: by one process of all that share the file, in the order in which it
came, and with one question for all of it while the store is down."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import assert_never

from proxy.core.lifecycle import State
from proxy.store.base import Done, Foreign, SettleResult, Store, Unavailable
from proxy.store.entries import Delivered, Entry
from proxy.store.spool import BATCH, Spool
from proxy.telemetry.journal import Journal

LOOK_EVERY = 1.0
"""Seconds between two looks while there is nothing to do."""
PAUSE_MOST = 5.0
"""Seconds between two questions to a store that is down, doubled up to that."""


class Delivery:
    """Runs in every process: whoever has the turn delivers, the others wait for it, and keep an eye on the size.
    *store*: seals what lies in the spool in clear, and takes what is sealed as it is. *wall*: Unix time in seconds."""

    def __init__(self, spool: Spool, store: Store, journal: Journal, wall: Callable[[], float]) -> None:
        self._spool = spool
        self._store = store
        self._journal = journal
        self._wall = wall
        self._pause = LOOK_EVERY
        self._most = BATCH

    async def run(self) -> None:
        """For ever; to be cancelled."""
        while True:
            more = False
            try:
                more = await self._round()
            except Exception:  # a defect must not leave all that waits behind it undelivered
                logging.getLogger(__name__).exception("a delivery failed")
            if not more:
                await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  # against a herd

    async def _round(self) -> bool:
        """Whether there may be more to do at once."""
        spool = self._spool
        if spool.take_turn():
            self._told(expired := await spool.expire())
            for key_hash in [] if isinstance(expired, Unavailable) else expired:
                self._journal.spool_expired(key_hash)
        else:
            self._told(await spool.look())
        self._journal.spool_size(full=spool.full, size=spool.tally.bytes)
        return spool.delivers and spool.tally.entries > 0 and await self._deliver()

    def _told(self, result: object) -> None:
        """Where the spool cannot be used, the log says so, once."""
        self._journal.spool_usable(result.why if isinstance(result, Unavailable) else "")

    async def _deliver(self) -> bool:
        """One batch, all at once: there is one entry a key in it. Whether to go on."""
        found = await self._spool.batch(self._most)
        if isinstance(found, Unavailable):
            return False
        if found.unreadable:
            self._journal.spool_unreadable(found.unreadable)
        if not found.entries:
            return False
        answers = await asyncio.gather(*(self._ask(entry) for entry in found.entries))
        results = Delivered([], [], [])
        for entry, answer in zip(found.entries, answers, strict=True):
            self._judge(entry, answer, results)
        failed = await self._spool.delivered(results)
        self._told(failed)
        if failed is None and results.over:
            self._journal.delivered(len(results.over))
        self._learn(down=len(results.again) == len(answers))
        return failed is None and self._most == BATCH

    def _learn(self, *, down: bool) -> None:
        """While it is down, one entry is the question for all: the next one each time, since it may be down for some
        keys only (a cluster), or have a damaged record under one."""
        self._pause = min(self._pause * 2, PAUSE_MOST) if down else LOOK_EVERY
        self._most = 1 if down else BATCH

    def _judge(self, entry: Entry, answer: SettleResult, results: Delivered) -> None:
        """Sort it in."""
        attempt, state = entry.record.attempt, entry.record.state
        match answer:
            case Done():
                if attempt.expires <= self._wall():  # the store has it as expired, too, and has written nothing
                    self._journal.spool_expired(attempt.key_hash)
                results.over.append(entry.id)
            case Foreign(owner) if state is State.ABSENT:
                self._journal.overtaken(attempt, owner.attempt)
                results.over.append(entry.id)
            case Foreign(owner):
                self._journal.incident(attempt, owner.attempt)
                results.incidents.append((entry.id, owner))
            case Unavailable(why):
                self._journal.store_failure("release" if state is State.ABSENT else "settle", why, attempt.key_hash)
                results.again.append(entry.id)
            case _:
                assert_never(answer)

    async def _ask(self, entry: Entry) -> SettleResult:
        """The store's answer; it comes within the store's deadline."""
        future: asyncio.Future[SettleResult] = asyncio.get_running_loop().create_future()

        def done(result: SettleResult) -> None:
            with suppress(asyncio.InvalidStateError):  # cancelled meanwhile
                future.set_result(result)

        released = entry.record.state is State.ABSENT
        (self._store.release if released else self._store.settle)(entry.record, done)
        return await future
