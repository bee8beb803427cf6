"""Claims and reads as commands: what is sent, and what each reply means."""

from binascii import hexlify
from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import NamedTuple

from hiredis import ReplyError

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record
from proxy.store.base import (
    Absent,
    ClaimResult,
    Found,
    Granted,
    ReadResult,
    Unavailable,
)
from proxy.store.codec import Undecodable, decode, encode
from proxy.store.marker import Marker
from proxy.store.redis.connection import Command, Reply, Unusable, pack
from proxy.store.redis.errors import explain, is_demotion
from proxy.store.redis.scripts import CONFIRM
from proxy.store.redis.topology import Topology

GRANTED, ABSENT = Granted(), Absent()
_GONE = -2
"""PTTL of a key that is not there. (-1, no expiry, is somebody's PERSIST; the record reads as long past its lease.)"""


class Context(NamedTuple):
    """What claims and reads need beside themselves."""

    topology: Topology
    withdraw: Callable[[Attempt], None]
    prefix: bytes
    waits: bool
    """Writes must last: they wait for replicas or the disk."""
    marker: Marker


@lru_cache(maxsize=256)
def _decimal(number: int) -> bytes:
    """Of a number that is always the same."""
    return b"%d" % number


def name(prefix: bytes, key_hash: bytes) -> bytes:
    """The store's key: hexadecimal, so that an operator finds in the store what the log names."""
    return prefix + hexlify(key_hash)


class Claim(Command):
    """SET NX GET: writes the record where nothing is, and says what is there, in one step.

    A grant is worth something for the deadline only: who was stopped and goes on later (a paused machine) does not
    trust a reply that it finds then, and not its own token.
    """

    __slots__ = ("_context", "_done", "_record")
    lasts = True

    def __init__(self, context: Context, record: Record, done: Callable[[ClaimResult], None], due: float) -> None:
        attempt = record.attempt
        key = context.prefix + hexlify(attempt.key_hash)
        self.packed = pack((b"SET", key, encode(record), b"NX", b"GET", b"PX", _decimal(attempt.retention)))
        self.key = key
        self.due = due
        self.copies = 0
        self.answered = False  # as Command does it: on the path of every payment, super() is not for nothing
        self._context = context
        self._record = record
        self._done = done

    def replied(self, reply: Reply) -> None:
        """Nothing was there: ours. Else the record that is."""
        if reply is None:
            self._own()
        elif isinstance(reply, bytes):
            self._meet(reply)
        else:
            if isinstance(reply, ReplyError):
                self.copies -= 1  # this one was not applied
            self.failed(why_not(reply))

    def forgettable(self, reply: Reply, why: str) -> None:
        """A grant that may be forgotten is none; what another has is found, whether it lasts or not."""
        if reply is None:
            self.failed(why)
        else:
            self.replied(reply)

    def failed(self, why: str) -> None:
        """A copy that may still be applied must not block the key: whoever hears Unavailable does not own it."""
        if self.copies > 0:
            self._context.withdraw(self._record.attempt)
        self._done(Unavailable(why))

    def _meet(self, data: bytes) -> None:
        attempt = self._record.attempt
        try:
            found = decode(data, attempt.key_hash)
        except Undecodable as error:
            self.copies -= 1
            self.failed(undecodable(error))
            return
        own = found.attempt.token == attempt.token
        if own and found.state is State.IN_PROGRESS:  # an earlier copy of this claim took the key
            if self._context.waits:
                self._context.topology.insist(Confirm(self._context, self._record, self._own, self.failed, self.due))
            else:
                self._own()
            return
        if not own and self.copies > 1:
            self._context.withdraw(attempt)
        if found.state is State.IN_PROGRESS:
            self._context.topology.insist(Age(self._context, found, self._done, self._gone, self.due))
        else:
            self._done(Found(found, found.state))

    def _own(self) -> None:
        if self._context.marker.refusing is not None:
            self.failed(self._context.marker.refusing)
        elif monotonic() >= self.due:
            self.failed("granted when the deadline was over")
        else:
            self._done(GRANTED)

    def _gone(self) -> None:
        """The record went between the two questions. Not claimed anew: this token may be withdrawn already, and what
        comes of that later would free the key under its own request."""
        self._done(Unavailable("the key's record went while it was looked at"))


class Confirm(Command):
    """Writes one's own claim anew, if it is still there: an acknowledgement is worth something only for what the
    connection itself has written."""

    __slots__ = ("_confirmed", "_refused")
    lasts = True

    def __init__(
        self,
        context: Context,
        record: Record,
        confirmed: Callable[[], None],
        refused: Callable[[str], None],
        due: float,
    ) -> None:
        key_hash, token = record.attempt.key_hash, record.attempt.token
        key = name(context.prefix, key_hash)
        super().__init__(pack((b"EVAL", CONFIRM.text, b"1", key, token)), due, key)
        self._confirmed = confirmed
        self._refused = refused

    def replied(self, reply: Reply) -> None:
        """1: it is there. Anything else: it is not granted."""
        if reply == 1:
            self._confirmed()
        else:
            self._refused("the claim was gone when it was confirmed" if reply == 0 else why_not(reply))

    def forgettable(self, reply: Reply, why: str) -> None:
        """Not granted."""
        if reply == 1:
            self._refused(why)
        else:
            self.replied(reply)

    def failed(self, why: str) -> None:
        """Not granted."""
        self._refused(why)


class Read(Command):
    """GET."""

    __slots__ = ("_context", "_done", "_key_hash")

    def __init__(self, context: Context, key_hash: bytes, done: Callable[[ReadResult], None], due: float) -> None:
        key = name(context.prefix, key_hash)
        super().__init__(pack((b"GET", key)), due, key)
        self._context = context
        self._key_hash = key_hash
        self._done = done

    def replied(self, reply: Reply) -> None:
        """The record, with its age where that matters."""
        if reply is None:
            self._done(ABSENT)
        elif isinstance(reply, bytes):
            self._meet(reply)
        else:
            self._done(Unavailable(why_not(reply)))

    def failed(self, why: str) -> None:
        """Unavailable."""
        self._done(Unavailable(why))

    def _meet(self, data: bytes) -> None:
        try:
            found = decode(data, self._key_hash)
        except Undecodable as error:
            self._done(Unavailable(undecodable(error)))
            return
        if found.state is State.IN_PROGRESS:
            self._context.topology.insist(Age(self._context, found, self._done, self._gone, self.due))
        else:
            self._done(Found(found, found.state))

    def _gone(self) -> None:
        self._done(ABSENT)


class Age(Command):
    """PTTL: how old a record in progress is by the store's clock, which no skew between the proxies bends."""

    __slots__ = ("_done", "_found", "_gone")

    def __init__(
        self,
        context: Context,
        found: Record,
        done: Callable[[Found | Unavailable], None],
        gone: Callable[[], None],
        due: float,
    ) -> None:
        key = name(context.prefix, found.attempt.key_hash)
        super().__init__(pack((b"PTTL", key)), due, key)
        self._found = found
        self._done = done
        self._gone = gone

    def replied(self, reply: Reply) -> None:
        """Found as it reads at its age; or gone meanwhile."""
        if not isinstance(reply, int):
            self._done(Unavailable(why_not(reply)))
        elif reply == _GONE:
            self._gone()
        else:
            self._done(Found(self._found, self._found.reads_as(self._found.attempt.retention - reply)))

    def failed(self, why: str) -> None:
        """Unavailable."""
        self._done(Unavailable(why))


def why_not(reply: Reply) -> str:
    """What an error reply says, for the log; raise Unusable where it ends the connection, as any unknown reply does."""
    if not isinstance(reply, ReplyError):
        raise Unusable(f"a reply of an unexpected kind: {type(reply).__name__}")
    if is_demotion(reply):
        raise Unusable(explain(reply))
    return explain(reply)


def undecodable(error: Undecodable) -> str:
    return f"a record cannot be decoded: {error}"
