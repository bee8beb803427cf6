"""The four operations as commands: what is sent, and what each reply means."""

import time
from binascii import hexlify
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from hiredis import ReplyError

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record
from proxy.store.base import (
    Absent,
    ClaimResult,
    Done,
    Foreign,
    Found,
    Granted,
    ReadResult,
    SettleResult,
    Unavailable,
)
from proxy.store.codec import Undecodable, decode, encode
from proxy.store.redis.connection import Command, Reply, Unusable, pack
from proxy.store.redis.errors import explain, is_demotion
from proxy.store.redis.multiplexer import Multiplexer
from proxy.store.redis.scripts import RELEASE, SETTLE, Script

GRANTED, DONE, ABSENT = Granted(), Done(), Absent()
_GONE = -2
"""PTTL of a key that is not there. (-1, no expiry, is somebody's PERSIST; the record reads as long past its lease.)"""


class Context(NamedTuple):
    """What claims and reads need beside themselves."""

    multiplexer: Multiplexer
    withdraw: Callable[[Attempt], None]
    prefix: bytes


@lru_cache(maxsize=256)
def _decimal(number: int) -> bytes:
    """Of a number that is always the same."""
    return b"%d" % number


def name(prefix: bytes, key_hash: bytes) -> bytes:
    """The store's key: hexadecimal, so that an operator finds in the store what the log names."""
    return prefix + hexlify(key_hash)


class Claim(Command):
    """SET NX GET: writes the record where nothing is, and says what is there, in one step."""

    __slots__ = ("_context", "_done", "_record")

    def __init__(self, context: Context, record: Record, done: Callable[[ClaimResult], None], due: float) -> None:
        attempt = record.attempt
        key = context.prefix + hexlify(attempt.key_hash)
        self.packed = pack((b"SET", key, encode(record), b"NX", b"GET", b"PX", _decimal(attempt.retention)))
        self.due = due
        self.copies = 0
        self.answered = False  # as Command does it: on the path of every payment, super() is not for nothing
        self._context = context
        self._record = record
        self._done = done

    def replied(self, reply: Reply) -> None:
        """Nothing was there: ours. Else the record that is."""
        if reply is None:
            self._done(GRANTED)
        elif isinstance(reply, bytes):
            self._meet(reply)
        else:
            if isinstance(reply, ReplyError):
                self.copies -= 1  # this one was not applied
            self.failed(_why(reply))

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
            self.failed(_undecodable(error))
            return
        own = found.attempt.token == attempt.token
        if own and found.state is State.IN_PROGRESS:  # an earlier copy of this claim took the key
            self._done(GRANTED)
            return
        if not own and self.copies > 1:
            self._context.withdraw(attempt)
        if found.state is State.IN_PROGRESS:
            self._context.multiplexer.insist(Age(self._context, found, self._done, self._again, self.due))
        else:
            self._done(Found(found, found.state))

    def _again(self) -> None:
        """The record went between the two questions."""
        self._context.multiplexer.insist(Claim(self._context, self._record, self._done, self.due))


class Read(Command):
    """GET."""

    __slots__ = ("_context", "_done", "_key_hash")

    def __init__(self, context: Context, key_hash: bytes, done: Callable[[ReadResult], None], due: float) -> None:
        super().__init__(pack((b"GET", name(context.prefix, key_hash))), due)
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
            self._done(Unavailable(_why(reply)))

    def failed(self, why: str) -> None:
        """Unavailable."""
        self._done(Unavailable(why))

    def _meet(self, data: bytes) -> None:
        try:
            found = decode(data, self._key_hash)
        except Undecodable as error:
            self._done(Unavailable(_undecodable(error)))
            return
        if found.state is State.IN_PROGRESS:
            self._context.multiplexer.insist(Age(self._context, found, self._done, self._gone, self.due))
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
        super().__init__(pack((b"PTTL", name(context.prefix, found.attempt.key_hash))), due)
        self._found = found
        self._done = done
        self._gone = gone

    def replied(self, reply: Reply) -> None:
        """Found as it reads at its age; or gone meanwhile."""
        if not isinstance(reply, int):
            self._done(Unavailable(_why(reply)))
        elif reply == _GONE:
            self._gone()
        else:
            self._done(Found(self._found, self._found.reads_as(self._found.attempt.retention - reply)))

    def failed(self, why: str) -> None:
        """Unavailable."""
        self._done(Unavailable(why))


class Write(Command):
    """A script by its name; by its text, where the server has forgotten it."""

    __slots__ = ("_arguments", "_done", "_key_hash", "_multiplexer", "_script")

    def __init__(
        self,
        multiplexer: Multiplexer,
        script: Script,
        key_hash: bytes,
        arguments: tuple[bytes, ...],
        done: Callable[[SettleResult], None],
        due: float,
    ) -> None:
        self.packed = pack((b"EVALSHA", script.sha, b"1", *arguments))
        self.due = due
        self.copies = 0
        self.answered = False  # see Claim
        self._multiplexer = multiplexer
        self._script = script
        self._key_hash = key_hash
        self._arguments = arguments
        self._done = done

    def replied(self, reply: Reply) -> None:
        """1: as it was asked to be. A record: the one that stands against it."""
        if reply == 1:
            self._done(DONE)
        elif isinstance(reply, bytes):
            self._done(self._foreign(reply))
        elif isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT"):
            again = Write(self._multiplexer, self._script, self._key_hash, self._arguments, self._done, self.due)
            again.packed = pack((b"EVAL", self._script.text, b"1", *self._arguments))
            self._multiplexer.insist(again)
        else:
            self._done(Unavailable(_why(reply)))

    def failed(self, why: str) -> None:
        """Unavailable; it may be repeated at will."""
        self._done(Unavailable(why))

    def _foreign(self, data: bytes) -> SettleResult:
        try:
            return Foreign(decode(data, self._key_hash))
        except Undecodable as error:
            return Unavailable(_undecodable(error))


def settle(
    multiplexer: Multiplexer, prefix: bytes, record: Record, done: Callable[[SettleResult], None], due: float
) -> Write:
    """See Store.settle. *due*: monotonic time."""
    attempt = record.attempt
    left = max(0, attempt.first_used + attempt.retention - time.time_ns() // 1_000_000)
    arguments = (prefix + hexlify(attempt.key_hash), encode(record), b"%d" % left)
    return Write(multiplexer, SETTLE, attempt.key_hash, arguments, done, due)


def release(
    multiplexer: Multiplexer, prefix: bytes, attempt: Attempt, done: Callable[[SettleResult], None], due: float
) -> Write:
    """See Store.release. *due*: monotonic time."""
    arguments = (name(prefix, attempt.key_hash), attempt.token)
    return Write(multiplexer, RELEASE, attempt.key_hash, arguments, done, due)


def _why(reply: Reply) -> str:
    """What an error reply says, for the log; raise Unusable where it ends the connection, as any unknown reply does."""
    if not isinstance(reply, ReplyError):
        raise Unusable(f"a reply of an unexpected kind: {type(reply).__name__}")
    if is_demotion(reply):
        raise Unusable(explain(reply))
    return explain(reply)


def _undecodable(error: Undecodable) -> str:
    return f"a record cannot be decoded: {error}"
