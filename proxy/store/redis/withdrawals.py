"""Claims that were answered "unavailable" are taken back: a copy that a stalled server applies late would block its key
for the whole retention, and the client's retry with it.

A withdrawal is a release that nobody waits for. It is sent behind every copy of its claim, and kept over reconnects and
error replies until it was applied, or until the claim would have expired. Where writes must last, it must too: a
replica that has the claim and not its withdrawal may be promoted. What cannot be done now is tried with one of them,
and what that one tells is true of all: they are many where a replica is away, and each try holds up the others.
"""

import logging
from functools import partial
from typing import NamedTuple

from proxy.core.record import Attempt
from proxy.deadlines import NEVER, Deadlines
from proxy.store.base import SettleResult, Unavailable
from proxy.store.redis.topology import Topology
from proxy.store.redis.writes import Withdraw, withdraw

MAX_WITHDRAWALS = 10_000
PAUSE = 1.0
"""Seconds until one that the server answered with an error is sent again."""

_log = logging.getLogger(__name__)


class _Postponed(NamedTuple):
    attempt: Attempt
    until: float
    why: str


class Withdrawals:
    """All claims that are to be taken back, by token."""

    def __init__(self, topology: Topology, prefix: bytes, deadlines: Deadlines) -> None:
        self.deadline = NEVER
        self._topology = topology
        self._prefix = prefix
        self._deadlines = deadlines
        self._pending: dict[bytes, tuple[Attempt, Withdraw]] = {}
        self._postponed: list[_Postponed] = []

    def open(self) -> None:
        """Watch over those that the server answers with an error."""
        self._deadlines.add(self)

    def close(self) -> None:
        """Let go of all that are left."""
        self._deadlines.discard(self)
        for attempt, _ in list(self._pending.values()):
            self._give_up(attempt, "the store is closed")

    def add(self, attempt: Attempt) -> None:
        """Release the key of *attempt* behind all that was sent so far."""
        if len(self._pending) >= MAX_WITHDRAWALS:
            oldest, command = next(iter(self._pending.values()))
            command.answered = True
            self._give_up(oldest, f"{MAX_WITHDRAWALS} younger ones wait")
        until = self._deadlines.now() + attempt.retention / 1000
        if self._postponed:  # it would only hold up the others, too
            self._pending[attempt.token] = attempt, self._command(attempt, until, anew=False)
            self._postponed.append(_Postponed(attempt, until, self._postponed[0].why))
        else:
            self._send(attempt, until, anew=False)

    def overdue(self) -> None:
        """Try the one that was postponed first, and let go of those that are too late."""
        self.deadline = NEVER
        now, postponed = self._deadlines.now(), self._postponed
        self._postponed = [each for each in postponed if each.attempt.token in self._pending and each.until > now]
        for late in postponed:
            if late.until <= now and late.attempt.token in self._pending:
                self._give_up(late.attempt, late.why)
        if self._postponed:
            self._again(self._postponed.pop(0))

    def _again(self, postponed: _Postponed) -> None:
        attempt = postponed.attempt
        self._send(attempt, postponed.until, anew=self._pending[attempt.token][1].forgotten)

    def _send(self, attempt: Attempt, until: float, *, anew: bool) -> None:
        command = self._command(attempt, until, anew=anew)
        self._pending[attempt.token] = attempt, command
        self._topology.insist(command)

    def _command(self, attempt: Attempt, until: float, *, anew: bool) -> Withdraw:
        done = partial(self._done, attempt, until)
        return withdraw(self._topology, self._prefix, attempt, done, until, anew=anew)

    def _done(self, attempt: Attempt, until: float, result: SettleResult) -> None:
        if attempt.token not in self._pending:
            return
        now = self._deadlines.now()
        if not isinstance(result, Unavailable):
            del self._pending[attempt.token]
            others, self._postponed = self._postponed, []
            for other in others:
                if other.attempt.token in self._pending:
                    self._again(other)
        elif now < until:
            self._postponed.append(_Postponed(attempt, until, result.why))
        else:
            self._give_up(attempt, result.why)
        if self._postponed:
            self.deadline = min(self.deadline, now + PAUSE)

    def _give_up(self, attempt: Attempt, why: str) -> None:
        """The log names those whose key may be taken; not those that are free on the server as it is."""
        _, command = self._pending.pop(attempt.token)
        if command.forgotten:
            return
        _log.warning("a claim could not be withdrawn and may block its key, hash %s: %s", attempt.key_hash.hex(), why)
