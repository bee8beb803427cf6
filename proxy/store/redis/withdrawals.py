"""Claims that were answered "unavailable" are taken back: a copy that a stalled server applies late would block its key
for the whole retention, and the client's retry with it.

A withdrawal is a release that nobody waits for. It is sent at once, behind every copy of its claim, and kept over
reconnects and error replies until it was applied, or until the claim would have expired. Where writes must last, it
must, too: a replica that has the claim and not its withdrawal may be promoted. So it is done a second time, and that
time waits. What cannot be done now is tried with one of them, and what that one tells is true of all: they are many
where a replica is away, and each that waits holds up the others.
"""

import logging
from functools import partial
from typing import NamedTuple

from proxy.core.record import Attempt
from proxy.deadlines import NEVER, Deadlines
from proxy.store.base import SettleResult, Unavailable
from proxy.store.redis.topology import Topology
from proxy.store.redis.writes import Write, release, withdraw

MAX_WITHDRAWALS = 10_000
PAUSE = 1.0
"""Seconds until one that the server answered with an error is sent again."""

_log = logging.getLogger(__name__)


class _Step(NamedTuple):
    """Of one withdrawal. *until*: monotonic time. *lasting*: its key is free by now, and shall be so for good."""

    attempt: Attempt
    until: float
    lasting: bool


class Withdrawals:
    """All claims that are to be taken back, by token. *durable*: writes must last."""

    def __init__(self, topology: Topology, prefix: bytes, deadlines: Deadlines, *, durable: bool) -> None:
        self.deadline = NEVER
        self._topology = topology
        self._prefix = prefix
        self._deadlines = deadlines
        self._durable = durable
        self._pending: dict[bytes, tuple[_Step, Write]] = {}
        self._postponed: list[_Step] = []

    def open(self) -> None:
        """Watch over those that the server answers with an error."""
        self._deadlines.add(self)

    def close(self) -> None:
        """Let go of all that are left."""
        self._deadlines.discard(self)
        for step, _ in list(self._pending.values()):
            self._give_up(step, "the store is closed")

    def add(self, attempt: Attempt) -> None:
        """Release the key of *attempt* behind all that was sent so far."""
        if len(self._pending) >= MAX_WITHDRAWALS:
            oldest, command = next(iter(self._pending.values()))
            command.answered = True
            self._give_up(oldest, f"{MAX_WITHDRAWALS} younger ones wait")
        self._send(_Step(attempt, self._deadlines.now() + attempt.retention / 1000, lasting=False))
        if self._postponed:  # also where the one that was tried is the one that was given up
            self.deadline = min(self.deadline, self._deadlines.now() + PAUSE)

    def overdue(self) -> None:
        """Try the one that was postponed first, and let go of those that are too late."""
        self.deadline = NEVER
        now, postponed = self._deadlines.now(), self._postponed
        self._postponed = [step for step in postponed if step.attempt.token in self._pending and step.until > now]
        for step in postponed:
            if step.until <= now and step.attempt.token in self._pending:
                self._give_up(step, "the server answered it with an error up to now")
        if self._postponed:
            self._send(self._postponed.pop(0))

    def _send(self, step: _Step) -> None:
        make = release if step.lasting else withdraw
        command = make(self._topology, self._prefix, step.attempt, partial(self._done, step), step.until)
        self._pending[step.attempt.token] = step, command
        self._topology.insist(command)

    def _done(self, step: _Step, result: SettleResult) -> None:
        if step.attempt.token not in self._pending:
            return
        if isinstance(result, Unavailable):
            self._postpone(step, result.why)
        elif self._durable and not step.lasting:
            self._postpone(step._replace(lasting=True), "")
        else:
            del self._pending[step.attempt.token]
            others, self._postponed = self._postponed, []
            for other in others:
                if other.attempt.token in self._pending:
                    self._send(other)
        if self._postponed:
            self.deadline = min(self.deadline, self._deadlines.now() + PAUSE)

    def _postpone(self, step: _Step, why: str) -> None:
        if self._deadlines.now() < step.until:
            self._pending[step.attempt.token] = step, self._pending[step.attempt.token][1]
            self._postponed.append(step)
        else:
            self._give_up(step, why)

    def _give_up(self, step: _Step, why: str) -> None:
        """The log names those whose key may be taken; not those that are free on the server as it is."""
        del self._pending[step.attempt.token]
        if not step.lasting:
            hashed = step.attempt.key_hash.hex()
            _log.warning("a claim could not be withdrawn and may block its key, hash %s: %s", hashed, why)
