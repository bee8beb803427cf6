"""Claims that were answered "unavailable" are taken back: a copy that a stalled server applies late would block its key
for the whole retention, and the client's retry with it.

A withdrawal is a release that nobody waits for. It is sent behind every copy of its claim, and kept over reconnects and
error replies until it was applied, or until the claim's lease is over.
"""

import logging
from functools import partial

from proxy.core.record import Attempt
from proxy.deadlines import NEVER, Deadlines
from proxy.store.base import SettleResult, Unavailable
from proxy.store.redis.multiplexer import Multiplexer
from proxy.store.redis.operations import Write, release

MAX_WITHDRAWALS = 10_000
PAUSE = 1.0
"""Seconds until one that the server answered with an error is sent again."""

_log = logging.getLogger(__name__)


class Withdrawals:
    """All claims that are to be taken back, by token."""

    def __init__(self, multiplexer: Multiplexer, prefix: bytes, deadlines: Deadlines) -> None:
        self.deadline = NEVER
        self._multiplexer = multiplexer
        self._prefix = prefix
        self._deadlines = deadlines
        self._pending: dict[bytes, tuple[Attempt, Write]] = {}
        self._postponed: list[tuple[Attempt, float]] = []

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
        self._send(attempt, self._deadlines.now() + attempt.lease / 1000)

    def overdue(self) -> None:
        """Send again what was postponed."""
        self.deadline = NEVER
        postponed, self._postponed = self._postponed, []
        for attempt, until in postponed:
            if attempt.token in self._pending:
                self._send(attempt, until)

    def _send(self, attempt: Attempt, until: float) -> None:
        command = release(self._multiplexer, self._prefix, attempt, partial(self._done, attempt, until), until)
        self._pending[attempt.token] = attempt, command
        self._multiplexer.insist(command)

    def _done(self, attempt: Attempt, until: float, result: SettleResult) -> None:
        if attempt.token not in self._pending:
            return
        now = self._deadlines.now()
        if not isinstance(result, Unavailable):
            del self._pending[attempt.token]
        elif now < until:
            self._postponed.append((attempt, until))
            self.deadline = min(self.deadline, now + PAUSE)
        else:
            self._give_up(attempt, result.why)

    def _give_up(self, attempt: Attempt, why: str) -> None:
        self._pending.pop(attempt.token, None)
        _log.warning("a claim could not be withdrawn and may block its key, hash %s: %s", attempt.key_hash.hex(), why)
