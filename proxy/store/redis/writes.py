"""Settlements, releases and rulings as commands: scripts, and what each reply means."""

import time
from binascii import hexlify
from collections.abc import Callable

from hiredis import ReplyError

from proxy.core.record import Attempt, Record
from proxy.store.base import Absent, Done, Foreign, OverruleResult, SettleResult, Unavailable
from proxy.store.codec import Undecodable, decode, encode
from proxy.store.redis.connection import Command, Reply, pack
from proxy.store.redis.operations import name, undecodable, why_not
from proxy.store.redis.scripts import OVERRULE, RELEASE, SETTLE, Script
from proxy.store.redis.topology import Topology

DONE, ABSENT = Done(), Absent()


class Write(Command):
    """A script by its name; by its text, where the server has forgotten it."""

    __slots__ = ("_arguments", "_done", "_key_hash", "_script", "_topology")
    lasts = True

    def __init__(
        self,
        topology: Topology,
        script: Script,
        key_hash: bytes,
        arguments: tuple[bytes, ...],
        done: Callable[[SettleResult], None],
        due: float,
    ) -> None:
        self.packed = pack((b"EVALSHA", script.sha, b"1", *arguments))
        self.key = arguments[0]
        self.due = due
        self.copies = 0
        self.answered = False  # see Claim
        self._topology = topology
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
            again = type(self)(self._topology, self._script, self._key_hash, self._arguments, self._done, self.due)
            again.packed = pack((b"EVAL", self._script.text, b"1", *self._arguments))
            self._topology.insist(again)
        else:
            self._done(Unavailable(why_not(reply)))

    def forgettable(self, reply: Reply, why: str) -> None:
        """What was done may be forgotten: it is to be repeated. So may be the record that stands against a release, and
        what it was to remove be back. (A settlement that met another's record is kept, whatever becomes of that.)"""
        if reply == 1 or (self._script is RELEASE and isinstance(reply, bytes)):
            self._done(Unavailable(why))
        else:
            self.replied(reply)

    def failed(self, why: str) -> None:
        """Unavailable; it may be repeated at will."""
        self._done(Unavailable(why))

    def _foreign(self, data: bytes) -> SettleResult:
        try:
            return Foreign(decode(data, self._key_hash))
        except Undecodable as error:
            return Unavailable(undecodable(error))


class Overrule(Write):
    """What stands against it may be nothing at all."""

    __slots__ = ("_ruled",)

    def __init__(
        self,
        topology: Topology,
        script: Script,
        key_hash: bytes,
        arguments: tuple[bytes, ...],
        done: Callable[[OverruleResult], None],
        due: float,
    ) -> None:
        super().__init__(topology, script, key_hash, arguments, done, due)
        self._ruled = done

    def replied(self, reply: Reply) -> None:
        """Nil: there is nothing to rule over."""
        if reply is None:
            self._ruled(ABSENT)
        else:
            super().replied(reply)


class Withdraw(Write):
    """A release that nobody waits for. It does not wait for replicas or the disk either, and holds up nobody."""

    __slots__ = ()
    lasts = False


def settle(
    topology: Topology, prefix: bytes, record: Record, done: Callable[[SettleResult], None], due: float
) -> Write:
    """See Store.settle. *due*: monotonic time."""
    attempt = record.attempt
    left = max(0, attempt.first_used + attempt.retention - time.time_ns() // 1_000_000)
    arguments = (prefix + hexlify(attempt.key_hash), encode(record), b"%d" % left)
    return Write(topology, SETTLE, attempt.key_hash, arguments, done, due)


def release(
    topology: Topology, prefix: bytes, attempt: Attempt, done: Callable[[SettleResult], None], due: float
) -> Write:
    """See Store.release. *due*: monotonic time."""
    arguments = (name(prefix, attempt.key_hash), attempt.token, b"anew")
    return Write(topology, RELEASE, attempt.key_hash, arguments, done, due)


def withdraw(
    topology: Topology, prefix: bytes, attempt: Attempt, done: Callable[[SettleResult], None], due: float
) -> Withdraw:
    """Free the key of a claim that was answered Unavailable, on the server as it is. *due*: monotonic time."""
    arguments = (name(prefix, attempt.key_hash), attempt.token, b"")
    return Withdraw(topology, RELEASE, attempt.key_hash, arguments, done, due)


def overrule(
    topology: Topology,
    prefix: bytes,
    attempt: Attempt,
    ruling: Record | None,
    done: Callable[[OverruleResult], None],
    due: float,
) -> Overrule:
    """See Store.overrule. *due*: monotonic time."""
    said = b"" if ruling is None else encode(ruling)
    times = (b"%d" % attempt.lease, b"%d" % attempt.retention)
    arguments = (name(prefix, attempt.key_hash), attempt.token, said, *times)
    return Overrule(topology, OVERRULE, attempt.key_hash, arguments, done, due)
