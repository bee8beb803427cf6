"""The keys of an issuer, kept fresh: fetched at intervals, and at once when a token names a key that is not there.

What a stranger can cause is bounded: one fetch at a time, none sooner than REFETCH_LEAST after the one before, and a
bounded number of requests that wait for it, together. A fetch that fails leaves the keys that there are, for a while.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from proxy.bearer.jwks import Failed, KeySet, read
from proxy.bearer.source import source
from proxy.tls import Pem

REFETCH_LEAST = 10.0
"""Seconds from one fetch to the next that somebody causes, and after one that failed."""
FETCH_DEADLINE = 5.0
"""Seconds for a fetch, with all that belongs to it."""
WAITING_LIMIT = 256
"""Requests that wait for a fetch at a time."""

logger = logging.getLogger(__name__)


class Keys:
    """Of the issuer whose JWK Set is at *place*, a path or an http(s) URL; raise ValueError for another one. *refresh*:
    seconds between two fetches; *max_stale*: seconds that keys are used for without a fetch that succeeds; *ca*: who
    vouches for the server, instead of the system's authorities; *now*: a monotonic clock."""

    def __init__(
        self,
        place: str,
        *,
        refresh: float = 300.0,
        max_stale: float = 86_400.0,
        refetch_least: float = REFETCH_LEAST,
        ca: Pem | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source(place, ca)
        self._refresh = refresh
        self._max_stale = max_stale
        self._least = refetch_least
        self._now = now
        self._set: KeySet = ()
        self._as_of = float("-inf")
        self.fetched = 0
        """How often keys came."""
        self._asked = float("-inf")
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._waiting: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._why: str | None = "was not asked yet"

    @property
    def known(self) -> KeySet:
        """The keys; empty: there are none, or they are too old to be trusted. The same object as long as they are the
        same keys."""
        return self._set if self._now() - self._as_of <= self._max_stale else ()

    @property
    def failure(self) -> str | None:
        """Why the last fetch gave no keys, for people; None: it gave some."""
        return self._why and f"the key set {self._source.name} {self._why}"

    @property
    def trouble(self) -> str | None:
        """Why there are no keys, for people; None: there are."""
        if self.known:
            return None
        age = f" for {self._max_stale:g} s" if self._set else ""
        return f"the key set {self._source.name}{age} {self._why or 'was not asked'}"

    async def open(self) -> None:
        """Fetch the keys, and keep on doing so. That they cannot be had is told by `trouble`."""
        await self._load()
        self._task = asyncio.create_task(self._keep_fresh(), name="key set")

    async def close(self) -> None:
        """End it. Whoever waits is told at once; the keys stay as they are."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._tell()

    async def reload(self) -> None:
        """Fetch the keys now, whenever the last fetch was: the operator wants it."""
        await self._load()

    def refetch(self, done: Callable[[], None]) -> bool:
        """Ask for newer keys. True: *done* will be called, once, after a fetch, whatever it gave, within
        FETCH_DEADLINE. False: not now: the last one was too short a time ago, or too many wait already."""
        if self._task is None or len(self._waiting) >= WAITING_LIMIT:
            return False
        if not self._turn.locked():  # a fetch that is under way will do
            if self._now() - self._asked < self._least:
                return False
            self._wanted.set()
        self._waiting.append(done)
        return True

    async def _keep_fresh(self) -> None:
        while True:
            pause = self._refresh if self._why is None else min(self._least, self._refresh)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            self._wanted.clear()
            await self._load()

    async def _load(self) -> None:
        """One fetch, after the one that is under way."""
        try:
            async with self._turn:
                self._asked = self._now()
                self._take(await self._fetch())
        finally:
            self._tell()

    async def _fetch(self) -> KeySet | Failed:
        try:
            async with asyncio.timeout(FETCH_DEADLINE):
                document = await self._source.fetch()
                return document if isinstance(document, Failed) else await asyncio.to_thread(read, document)
        except TimeoutError:
            return Failed(f"has not answered within {FETCH_DEADLINE:g} s")
        except Exception:  # a defect: keys that are not fetched any more would never be taken away
            logger.exception("fetching the key set %s", self._source.name)
            return Failed("cannot be fetched: see the log")

    def _take(self, fetched: KeySet | Failed) -> None:
        before = self._why
        if isinstance(fetched, Failed):
            self._why = fetched.why
            if self._why != before:
                logger.warning("%s", self.failure)
            return
        self._as_of, self._why = self._asked, None
        self.fetched += 1
        news = fetched != self._set
        if news:
            self._set = fetched
        if news or before is not None:
            logger.info("the key set %s has %d keys", self._source.name, len(fetched))

    def _tell(self) -> None:
        """Wake who waits. Those that come meanwhile wait for another fetch."""
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            try:
                done()
            except Exception:  # one request's defect must not keep the others waiting
                logger.exception("a request that waited for keys failed")
