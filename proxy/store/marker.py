"""The marker: a note that lies beside the records and does not expire, by which a store is known again.

It says what makes keys (the *fingerprint*), so that a proxy that would make other keys does not start: one key of a
client would be two in the store, and could be used twice. And it is the only thing that shows that the store has
forgotten: after a FLUSHALL, a restart without its data or a failover to a server that has none, every key is as free as
if it had never been used. Therefore who finds another marker than at its start, or none, is not ready any more; and,
where that is wanted, grants nothing.

That lasts until the proxy is started anew, since the store cannot tell how much it has forgotten, and a person can: at
the start, no marker means a new store, and one is written. It carries a number of its own, so that the proxies that
saw the old one are not put at ease by the one that was started anew.
"""

import logging
import os
from collections.abc import Callable

from proxy.deadlines import NEVER, Deadlines
from proxy.store.base import Absent, ClaimResult, ReadResult, StoreRefused, Unavailable

EVERY = 2.0
"""Seconds between two looks."""
FORGOTTEN = (
    "the store has lost its marker: it was emptied, came back without its data, or evicts. Keys that were used may be"
    " forgotten: find out what was lost, then restart the proxies"
)
_FORM = b"1"
_logger = logging.getLogger(__name__)


class Marker:
    """What one proxy knows of the markers of its store, by their names (a cluster has several). *fingerprint*: of what
    makes keys. *refuse*: whether a store that has forgotten is granted from no more."""

    def __init__(self, fingerprint: bytes, *, refuse: bool = True) -> None:
        self._fingerprint = fingerprint.hex().encode()
        self._known: dict[bytes, bytes] = {}
        self._refuse = refuse
        self.forgotten: str | None = None
        """Why no traffic should come."""
        self.refusing: str | None = None
        """Why no key may be granted."""

    def new(self) -> bytes:
        """One to be written where there is none."""
        return b" ".join((_FORM, self._fingerprint, os.urandom(8).hex().encode()))

    def begin(self, name: bytes, there: bytes) -> None:
        """At the start, *there* is: remember it; raise StoreRefused where another kind of proxy wrote it."""
        form, _, rest = there.partition(b" ")
        if form != _FORM:
            raise StoreRefused("its marker is of another release, or somebody else's")
        if rest.partition(b" ")[0] != self._fingerprint:
            raise StoreRefused(
                "it was filled by proxies that make other keys of the same requests (another store.hash_secret,"
                " idempotency.header or scope): one key would become two, and could be used twice. Give this proxy"
                " their settings; or, once clients do not retry any more what went to them, a store or prefix of its"
                " own"
            )
        self._known[name] = there

    def seen(self, name: bytes, there: bytes | None) -> None:
        """Later, *there* is what lies under *name*."""
        known = self._known.get(name)
        if known not in (None, there) and self.forgotten is None:
            self.forgotten = FORGOTTEN
            self.refusing = FORGOTTEN if self._refuse else None
            _logger.error("%s", FORGOTTEN)


def found_only(forgotten: str, done: Callable[[ClaimResult], None]) -> Callable[[ReadResult], None]:
    """What takes the place of a claim then is a read: what is there is found, and nothing is granted."""

    def answered(result: ReadResult) -> None:
        done(Unavailable(forgotten) if isinstance(result, Absent) else result)

    return answered


class Watch:
    """Looks at the markers every now and then. *look*: asks for them, and does not wait; *limit*: seconds within which
    it has its answers."""

    def __init__(self, look: Callable[[], None], deadlines: Deadlines, *, limit: float) -> None:
        self.deadline = NEVER
        self._look = look
        self._deadlines = deadlines
        self._every = max(EVERY, 2 * limit)

    def open(self) -> None:
        """Begin."""
        self.deadline = self._deadlines.now() + self._every
        self._deadlines.add(self)

    def close(self) -> None:
        """Look no more."""
        self._deadlines.discard(self)

    def overdue(self) -> None:
        """Look."""
        self.deadline = self._deadlines.now() + self._every
        self._look()
