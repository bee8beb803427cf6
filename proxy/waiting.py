"""Who waits for a key in progress. Within the process that has the key's first request, waiting costs nothing: that
request's end is the signal. For a key of another process one look now and then serves all who wait for it.

Of those who could take a key that was released, one goes next, and the others wait for that one. Only a release that
this process has made itself lets anybody go: that a record is not there is no proof that its request was never sent,
the store may have lost it.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from proxy.core.lifecycle import State
from proxy.deadlines import NEVER, Deadlines
from proxy.store.base import Found, ReadResult, Store

POLL_FIRST, POLL_MOST = 0.1, 1.0
"""Seconds between two looks at a key of another process, doubled each time."""


class Waiter(Protocol):
    """A request that waits. Its own deadline, it watches itself."""

    @property
    def contends(self) -> bool:
        """Whether it would take the key."""

    def freed(self) -> None:
        """The key was released, and it is its turn. Only who contends hears this."""

    def settled(self, result: ReadResult) -> None:
        """The key is not in progress any more; or the store does not say."""


class _Key:
    """One key that is waited for."""

    def __init__(self, waiting: "Waiting", key_hash: bytes) -> None:
        self.deadline = NEVER
        self.waiters: list[Waiter] = []
        self._waiting = waiting
        self._hash = key_hash
        self._pause = POLL_FIRST
        self._looking = False
        self._look_again = False

    def overdue(self) -> None:
        """See `deadlines.Waiting`."""
        self.look()

    def look(self) -> None:
        """Ask the store; once more, if it is being asked already: that answer may be from before."""
        self.deadline = NEVER
        if self._looking:
            self._look_again = True
        else:
            self._looking = True
            self._waiting.store.read(self._hash, self._seen)

    def _seen(self, result: ReadResult) -> None:
        self._looking = False
        if not self.waiters:
            return
        if not (isinstance(result, Found) and result.state is State.IN_PROGRESS):
            self._waiting.over(self._hash, result)
        elif self._look_again:
            self._look_again = False
            self.look()
        else:
            self.rest()

    def rest(self) -> None:
        """Until the next look; or until the one who has the key says that there is something to see."""
        if not self._waiting.owns(self._hash):
            self.deadline = self._waiting.deadlines.now() + self._pause
            self._pause = min(self._pause * 2, POLL_MOST)


class Waiting:
    """All of them in one process; not more than *most*."""

    def __init__(self, store: Store, deadlines: Deadlines, most: int) -> None:
        self.store = store
        self.deadlines = deadlines
        self._most = most
        self.draining = False
        """Nobody goes next any more; who would, is freed to be told so."""
        self._count = 0
        self._keys: dict[bytes, _Key] = {}
        self._owned: set[bytes] = set()
        self.own = self._owned.add
        """A request of this process has the key (its hash)."""

    def owns(self, key_hash: bytes) -> bool:
        """Whether it has."""
        return key_hash in self._owned

    def settled(self, key_hash: bytes) -> None:
        """It has ended: the key is settled, or will be."""
        self._owned.discard(key_hash)
        if self._keys and key_hash in self._keys:
            self._keys[key_hash].look()

    def released(self, key_hash: bytes) -> None:
        """It has ended, and was never sent, or turned away: the key is free."""
        self._owned.discard(key_hash)
        key = self._keys.get(key_hash)
        if key is None:
            return
        contenders = [waiter for waiter in key.waiters if waiter.contends]
        if contenders:
            key.rest()
        else:
            key.look()
        for waiter in contenders if self.draining else contenders[:1]:
            self.leave(key_hash, waiter)
            _tell(waiter.freed)

    def wait(self, key_hash: bytes, waiter: Waiter) -> bool:
        """Until the key is settled, or `leave`; False: too many do already."""
        if self._count >= self._most:
            return False
        self._count += 1
        key = self._keys.get(key_hash)
        if key is None:
            key = self._keys[key_hash] = _Key(self, key_hash)
            self.deadlines.add(key)
            key.rest()
        key.waiters.append(waiter)
        return True

    def leave(self, key_hash: bytes, waiter: Waiter) -> None:
        """It waits no longer."""
        key = self._keys.get(key_hash)
        if key is not None and waiter in key.waiters:
            key.waiters.remove(waiter)
            self._count -= 1
            if not key.waiters:
                self._drop(key_hash)

    def over(self, key_hash: bytes, result: ReadResult) -> None:
        """Tell all who wait for the key."""
        waiters = self._drop(key_hash)
        self._count -= len(waiters)
        for waiter in waiters:
            _tell(partial(waiter.settled, result))

    def _drop(self, key_hash: bytes) -> list[Waiter]:
        key = self._keys.pop(key_hash)
        self.deadlines.discard(key)
        waiters, key.waiters = key.waiters, []
        return waiters


def _tell(news: Callable[[], None]) -> None:
    try:
        news()
    except Exception:  # one request's defect must not be that of the others
        logging.getLogger(__name__).exception("a request that waited for a key failed")
