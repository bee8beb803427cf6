"""Records on one Redis or Valkey server."""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial

import hiredis

from proxy.core.key import HASH_SIZE, NO_CREDENTIAL
from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record
from proxy.deadlines import Deadlines
from proxy.store.base import (
    ClaimResult,
    Done,
    Found,
    Granted,
    ReadResult,
    SettleResult,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.redis import address, handshake, inspection
from proxy.store.redis.connection import Identity, Reply
from proxy.store.redis.errors import explain
from proxy.store.redis.multiplexer import Multiplexer
from proxy.store.redis.operations import Claim, Context, Read, name, release, settle
from proxy.store.redis.scripts import RELEASE
from proxy.store.redis.withdrawals import Withdrawals

OPEN_LIMIT = 5.0
"""Seconds that opening may take at least, however short the deadline of an operation is."""
RECONNECT_LIMIT = 1.0
"""The same for connecting again: TLS takes longer than a command."""
TRIAL_RETENTION = 10_000
"""Milliseconds after which nothing is left of the trial at the start."""


class RedisStore:
    """See proxy.store.base.Store. Needs a running loop.

    *url*: as `address.parse` reads it (StoreRefused). *deadline*: seconds; every operation is answered within it, at
    most a tick of *deadlines* later. *prefix* stands before all keys. *allow_eviction*: take a server that may evict.
    """

    def __init__(
        self, url: str, *, deadline: float, prefix: str, deadlines: Deadlines, allow_eviction: bool = False
    ) -> None:
        self._address = address.parse(url)
        self._deadline = deadline
        self._now = deadlines.now
        self._allow_eviction = allow_eviction
        self._prefix = prefix.encode()
        self._multiplexer = Multiplexer(self._connect, deadline=deadline, deadlines=deadlines)
        self._withdrawals = Withdrawals(self._multiplexer, self._prefix, deadlines)
        self._context = Context(self._multiplexer, self._withdrawals.add, self._prefix)

    @property
    def place(self) -> str:
        """The URL without password and parameters."""
        return self._address.place

    async def open(self) -> None:
        """Connect, look whether the server is fit for use, and try every operation once with a key that is thrown away:
        a missing right shows now, and not at the first payment. Raise StoreUnavailable or StoreRefused."""
        ready = await handshake.connect(self._address, max(self._deadline, OPEN_LIMIT))
        self._multiplexer.open(ready.connection)
        self._withdrawals.open()
        try:
            inspection.refuse_unfit(await self._info(), allow_eviction=self._allow_eviction)
            await self._try()
        except StoreRefused as refused:
            await self.close()
            raise StoreRefused(f"{self.place}: {refused}") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See Store.close."""
        await self._multiplexer.close()
        self._withdrawals.close()

    async def ping(self) -> None:
        """See Store.ping."""
        reply = await self._ask(b"PING")
        if isinstance(reply, hiredis.ReplyError):
            raise StoreUnavailable(f"{self.place}: {explain(reply)}")

    async def findings(self) -> list[str]:
        """See Store.findings; raise StoreUnavailable."""
        return inspection.findings(await self._info())

    def claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        """See Store.claim."""
        self._multiplexer.send(Claim(self._context, record, done, self._now() + self._deadline))

    def settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.settle."""
        due = self._now() + self._deadline
        self._multiplexer.send(settle(self._multiplexer, self._prefix, record, done, due))

    def release(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.release."""
        due = self._now() + self._deadline
        self._multiplexer.send(release(self._multiplexer, self._prefix, record.attempt, done, due))

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        """See Store.read."""
        self._multiplexer.send(Read(self._context, key_hash, done, self._now() + self._deadline))

    async def _connect(self, previous: Identity | None) -> handshake.Ready:
        return await handshake.connect(self._address, max(self._deadline, RECONNECT_LIMIT), previous)

    async def _ask(self, *words: bytes) -> Reply:
        try:
            return await self._multiplexer.ask(words, self._now() + self._deadline)
        except ConnectionError as error:
            raise StoreUnavailable(f"{self.place}: {error}") from None

    async def _info(self) -> inspection.Info:
        reply = await self._ask(b"INFO")
        if not isinstance(reply, bytes):
            raise StoreRefused(f"INFO: {explain(reply) if isinstance(reply, hiredis.ReplyError) else 'no text'}")
        return inspection.parse(reply)

    async def _try(self) -> None:
        attempt = Attempt(
            key_hash=os.urandom(HASH_SIZE),
            token=os.urandom(16),
            first_used=time.time_ns() // 1_000_000,
            lease=TRIAL_RETENTION,
            retention=TRIAL_RETENTION,
            credential=NO_CREDENTIAL,
            url=b"",
        )
        begun, lost = Record(attempt, State.IN_PROGRESS, None), Record(attempt, State.UNKNOWN, None)
        await self._expect("a claim", partial(self.claim, begun), Granted)
        await self._expect("a read", partial(self.read, attempt.key_hash), Found)
        await self._expect("a release", partial(self.release, begun), Done)
        await self._expect("a settlement", partial(self.settle, lost), Done)
        reply = await self._ask(b"EVAL", RELEASE.text, b"1", name(self._prefix, attempt.key_hash), attempt.token)
        if isinstance(reply, hiredis.ReplyError):  # the way that is left once the scripts were flushed
            raise StoreRefused(f"EVAL cannot be used there: {explain(reply)}")

    async def _expect(self, what: str, operate: Callable[[Callable[[object], None]], None], wanted: type) -> None:
        result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        operate(lambda outcome: None if result.done() else result.set_result(outcome))
        outcome = await result
        if not isinstance(outcome, wanted):
            await self.ping()  # who does not even answer that is unavailable
            why = outcome.why if isinstance(outcome, Unavailable) else f"it came to {type(outcome).__name__}"
            raise StoreRefused(f"{what} was tried there, and fails: {why}")
